"""PyTorch, eager. Options: fused (the fast form of its Adam), rows (predict so many rows at a time).

Its tensors are made beforehand; the loss is left where it is, without the wait that float(loss) would be.
"""

import torch
from problem import BETAS, EPS, LR


class Network:
    def __init__(self, problem):
        self.start, self.batch, self.options = problem.start(), problem.batch, problem.options
        activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[problem.activation]
        layers = []
        for w, _ in self.start:
            layers += [torch.nn.Linear(*w.shape), activation()]
        self.model = torch.nn.Sequential(*layers[:-1])
        self.loss = torch.nn.CrossEntropyLoss()

    def begin(self):
        parameters = list(self.model.parameters())
        with torch.no_grad():
            for i, (w, b) in enumerate(self.start):
                parameters[2 * i].copy_(torch.from_numpy(w.T))
                parameters[2 * i + 1].copy_(torch.from_numpy(b))
        fused = {"fused": True} if self.options.get("fused") else {}
        self.optimizer = torch.optim.Adam(parameters, lr=LR, betas=BETAS, eps=EPS, **fused)

    def own(self, *arrays): return tuple(torch.from_numpy(a) for a in arrays)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def predicting(self): return torch.inference_mode()

    def predict(self, x):
        rows = self.options.get("rows")
        return torch.cat([self.model(part) for part in x.split(rows)]) if rows else self.model(x)

    def epochs(self, x, y, n):
        "Batches by index, as a tensor data set gives them; the mean loss and the accuracy of each epoch."
        data = torch.utils.data.TensorDataset(x, y)
        means = []
        for _ in range(n):
            total, right = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for index in torch.randperm(len(data)).split(self.batch):
                xb, yb = data[index]
                self.optimizer.zero_grad()
                logits = self.model(xb)
                loss = self.loss(logits, yb)
                loss.backward()
                self.optimizer.step()
                total += loss.detach() * len(yb)
                right += (logits.detach().argmax(1) == yb).sum()
            means.append((float(total) / len(data), float(right) / len(data)))
        return means[0][0]


def set_threads(n):
    torch.set_num_threads(n)
    if n == 1: torch.set_num_interop_threads(1)


def versions():
    return {"PyTorch": torch.__version__}
