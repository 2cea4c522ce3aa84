"""Writes tests/fixtures/optim.npz: where PyTorch's optimizers and schedules go in 150 steps, in float64.

    pip install torch
    python tools/make_torch_fixtures.py

tests/test_optim.py compares the library with this file, without torch. The problem is small and deliberately awkward: the
gradient A θ + sin(5 θ) + noise, with a badly conditioned A. The noise is stored, so that both sides see the same.
The keys of the file are the calls that the library needs for the same path.
"""

from pathlib import Path

import numpy as np
import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, OneCycleLR, SequentialLR, StepLR

STEPS = 150
TARGET = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "optim.npz"

optimizers = {
    "SGD(0.02)": lambda p: SGD(p, 0.02),
    "SGD(0.02, weight_decay=0.1)": lambda p: SGD(p, 0.02, weight_decay=0.1),
    "SGD(0.02, momentum=0.9)": lambda p: SGD(p, 0.02, momentum=0.9),
    "SGD(0.02, momentum=0.9, weight_decay=0.1)": lambda p: SGD(p, 0.02, momentum=0.9, weight_decay=0.1),
    "SGD(0.01, momentum=0.9, nesterov=True)": lambda p: SGD(p, 0.01, momentum=0.9, nesterov=True),
    "SGD(0.01, momentum=0.9, nesterov=True, weight_decay=0.1)":
        lambda p: SGD(p, 0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adagrad()": lambda p: Adagrad(p),
    "Adagrad(0.3, weight_decay=0.1, eps=1e-4)": lambda p: Adagrad(p, 0.3, weight_decay=0.1, eps=1e-4),
    "RMSprop()": lambda p: RMSprop(p),
    "RMSprop(0.02, alpha=0.9, eps=1e-4, weight_decay=0.1)": lambda p: RMSprop(p, 0.02, alpha=0.9, eps=1e-4, weight_decay=0.1),
    "RMSprop(0.005, momentum=0.8)": lambda p: RMSprop(p, 0.005, momentum=0.8),
    "Adam()": lambda p: Adam(p),
    "Adam(0.05, betas=(0.8, 0.95), eps=1e-3)": lambda p: Adam(p, 0.05, betas=(0.8, 0.95), eps=1e-3),
    "Adam(0.05, weight_decay=0.1)": lambda p: Adam(p, 0.05, weight_decay=0.1),
    "AdamW()": lambda p: AdamW(p),
    "AdamW(0.05, weight_decay=0.3)": lambda p: AdamW(p, 0.05, weight_decay=0.3),
}

schedules = {  # the learning rates that multiply SGD's and Adam's steps, one a step
    "step_decay(0.05, every=40)": lambda o: StepLR(o, 40),
    "step_decay(0.05, every=25, factor=0.5)": lambda o: StepLR(o, 25, gamma=0.5),
    "exponential_decay(0.05, factor=0.97)": lambda o: ExponentialLR(o, gamma=0.97),
    "cosine_decay(0.05, steps=150)": lambda o: CosineAnnealingLR(o, T_max=150),
    "cosine_decay(0.05, steps=150, final=0.01)": lambda o: CosineAnnealingLR(o, T_max=150, eta_min=0.01),
    "warmup(0.05, steps=20)": lambda o: LinearLR(o, start_factor=1 / 20, total_iters=19),
    "warmup(cosine_decay(0.05, steps=130), steps=20)":
        lambda o: SequentialLR(o, [LinearLR(o, 1 / 20, total_iters=19), CosineAnnealingLR(o, T_max=130)], milestones=[20]),
    "one_cycle(0.05, steps=150)": lambda o: OneCycleLR(o, 0.05, total_steps=150, cycle_momentum=False),
    "one_cycle(0.05, steps=150, rise=0.1, div=10, final_div=100)":
        lambda o: OneCycleLR(o, 0.05, total_steps=150, pct_start=0.1, div_factor=10, final_div_factor=100, cycle_momentum=False),
}


def walk(make_optimizer, start, matrix, noise, make_schedule=None):
    "The positions (STEPS + 1, 3), and the learning rates (STEPS,)."
    theta = torch.tensor(start, requires_grad=True)
    optimizer = make_optimizer([theta])
    schedule = make_schedule(optimizer) if make_schedule else None
    path, rates = [start.copy()], []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        with torch.no_grad():
            theta.grad = matrix @ theta + torch.sin(5 * theta) + noise[step]
        optimizer.step()
        if schedule and step < STEPS - 1: schedule.step()
        path.append(theta.detach().numpy().copy())
    return np.array(path), np.array(rates)


def main():
    rng = np.random.default_rng(0)
    start, matrix = rng.normal(size=3) * 2, rng.normal(size=(3, 3))
    matrix = matrix @ np.diag([0.1, 1, 10]) @ matrix.T / 3
    noise = rng.normal(size=(STEPS, 3)) * 0.1
    torch_problem = start, torch.tensor(matrix), torch.tensor(noise)
    saved = {"start": start, "matrix": matrix, "noise": noise}
    for name, make in optimizers.items():
        saved[name] = walk(make, *torch_problem)[0]
    for name, schedule in schedules.items():
        saved[f"rates of {name}"] = walk(lambda p: SGD(p, 0.05), *torch_problem, schedule)[1]
        saved[f"SGD({name}, momentum=0.5)"] = walk(lambda p: SGD(p, 0.05, momentum=0.5), *torch_problem, schedule)[0]
        saved[f"AdamW({name})"] = walk(lambda p: AdamW(p, 0.05), *torch_problem, schedule)[0]
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, **saved)
    print(f"{TARGET.name}: {len(saved)} arrays, {TARGET.stat().st_size / 1e3:.0f} kB, torch {torch.__version__}")


if __name__ == "__main__": main()
