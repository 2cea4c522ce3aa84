"""scikit-learn's MLPClassifier. With two classes it has one output where the others have two: another network."""

import warnings

import numpy as np
import sklearn
from problem import BETAS, EPS, LR, Cannot
from sklearn.neural_network import MLPClassifier


class Network:
    gives = "probabilities"

    def __init__(self, problem):
        if problem.sizes[-1] < 3: raise Cannot("with two classes its network has one output, not two")
        warnings.simplefilter("ignore")
        self.start = problem.start()
        self.model = MLPClassifier(problem.sizes[1:-1], activation=problem.activation, solver="adam", alpha=0.0, batch_size=problem.batch,
                                   learning_rate_init=LR, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPS, random_state=0)
        classes = np.arange(problem.sizes[-1])
        x = np.zeros((max(problem.batch, len(classes)), problem.sizes[0]), np.float32)
        self.model.partial_fit(x, np.arange(len(x)) % len(classes), classes=classes)  # makes its arrays

    def begin(self):
        for i, (w, b) in enumerate(self.start):
            self.model.coefs_[i][...] = w
            self.model.intercepts_[i][...] = b
        vars(self.model).pop("_optimizer", None)  # the next partial_fit begins with a new one
        self.model.t_ = 0

    def own(self, *arrays): return arrays

    def step(self, x, y):
        self.model.partial_fit(x, y)  # one epoch of the data it is given: of a single batch, one step
        return self.model.loss_

    def predict(self, x): return self.model.predict_proba(x)

    def epochs(self, x, y, n):
        losses = [self.step(x, y) for _ in range(n)]
        return losses[0]


def versions():
    return {"scikit-learn": sklearn.__version__}
