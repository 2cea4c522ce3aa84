"""Draws the site's own pictures with the library itself: the film on the front page, its last frame, the social card, the icon.

    python tools/make_assets.py

Writes learning.gif, learning.png, social_card.png, favicon.svg and the last frame of every other .gif into nbs/.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.animation import PillowWriter
from PIL import Image

import nn_from_scratch as nn

NBS = Path(__file__).resolve().parent.parent / "nbs"
STEPS = [0, 5, 10, 20, 30, 40, 55, 70, 85, 100, 120, 140, 170, 200, 240, 280, 330, 400, 500, 600]
BLUE, ORANGE, GREEN, INK = "#0072B2", "#E69F00", "#009E73", "#1d2530"


def trained() -> tuple[np.ndarray, np.ndarray, list, list[float]]:
    "A spiral of three arms, the models after each of STEPS, and the loss of every step."
    x, y = nn.spiral(300, classes=3, noise=0.1, rng=0)
    model, optimizer = nn.mlp([2, 32, 32, 3], activation=nn.tanh, rng=3), nn.Adam(lr=0.01)
    step = nn.value_and_grad(lambda model, x, y: nn.cross_entropy(model(x), y))
    snapshots, losses = [], []
    for i in range(STEPS[-1] + 1):
        loss, grads = step(model, x, y)
        losses.append(float(loss))
        if i in STEPS: snapshots.append(model.parameters().vector.copy())
        optimizer.update(model, grads)
    def at(vector):
        def scores(points):
            model.parameters().vector[:] = vector
            return model(points)
        return scores
    return x, y, [at(vector) for vector in snapshots], losses


def film() -> None:
    x, y, models, losses = trained()
    figure = plt.figure(figsize=(7.6, 3.5), dpi=100, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.05])
    writer = PillowWriter(fps=5)
    with writer.saving(figure, str(NBS / "learning.gif"), dpi=100):
        for i, (when, model) in enumerate(zip(STEPS, models)):
            left.clear(), right.clear()
            nn.plot_decision_boundary(model, x, y, ax=left, resolution=110)
            correct = float(nn.accuracy(model(x), y))
            left.get_legend().remove()
            left.set(title=f"step {when}: {correct:.0%} right", xlabel="", ylabel="", xticks=[], yticks=[])
            right.plot(losses, color="0.85", lw=2)
            right.plot(losses[:when + 1], color=BLUE, lw=2.5)
            right.plot(when, losses[when], "o", color=ORANGE, mec=INK, ms=9)
            right.set(title="loss", xlabel="step", ylim=(0, None), xlim=(-10, STEPS[-1] + 10))
            right.spines[["top", "right"]].set_visible(False)
            if i == 0: figure.canvas.draw(), figure.set_layout_engine("none")
            writer.grab_frame()
    plt.close(figure)
    with Image.open(NBS / "learning.gif") as image:  # few colours, the same for every frame, make it small; the last one stays a while
        frames = []
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(image.convert("RGB"))
    three = Image.new("RGB", (frames[0].width, 3 * frames[0].height))
    for i, frame in enumerate((frames[0], frames[8], frames[-1])): three.paste(frame, (0, i * frame.height))
    colors = three.quantize(64)
    palette = np.array(colors.getpalette()).reshape(-1, 3)
    palette[palette.min(axis=1) > 245] = 255  # paper stays white
    frames = [frame.quantize(palette=colors, dither=Image.Dither.NONE) for frame in frames]
    for frame in frames: frame.putpalette(palette.ravel().tolist())
    durations = [200] * (len(frames) - 1) + [3000]
    frames[0].save(NBS / "learning.gif", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)


def card() -> None:
    x, y, models, _ = trained()
    figure = plt.figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    ax = figure.add_axes([0.55, 0.08, 0.42, 0.84])
    nn.plot_decision_boundary(models[-1], x, y, ax=ax, resolution=150)
    ax.get_legend().remove()
    ax.set(xlabel="", ylabel="", xticks=[], yticks=[], title="")
    figure.text(0.05, 0.66, "nn_from_scratch", fontsize=42, weight="bold", color=INK)
    words = "How a neural network learns:\na book of notebooks\nthat is also a library"
    figure.text(0.05, 0.40, words, fontsize=27, color="#556070", linespacing=1.35)
    figure.text(0.05, 0.20, "θ ← θ − η ∇L(θ)", fontsize=31, color=BLUE)
    figure.savefig(NBS / "social_card.png", metadata={"Software": None})
    plt.close(figure)
    with Image.open(NBS / "social_card.png") as image: image.convert("RGB").quantize(128).save(NBS / "social_card.png", optimize=True)


def icon() -> None:
    "Two neurons, three, one: each connection as thick as a weight of a network drawn from seed 0."
    layers = [[(10, 20), (10, 44)], [(32, 10), (32, 32), (32, 54)], [(54, 32)]]
    weights = [layer.weight for layer in nn.mlp([2, 3, 1], rng=0) if isinstance(layer, nn.Linear)]
    lines, dots = [], []
    for start, end, w in zip(layers, layers[1:], weights):
        for i, (x1, y1) in enumerate(start):
            for j, (x2, y2) in enumerate(end):
                color = BLUE if w[i, j] > 0 else ORANGE
                width = 1.5 + 2.5 * min(abs(float(w[i, j])), 1)
                lines.append(f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{color}" stroke-width="{width:.1f}"/>')
    for column, color in zip(layers, (BLUE, GREEN, ORANGE)):
        dots += [f'<circle cx="{cx}" cy="{cy}" r="8" fill="{color}" stroke="#fff" stroke-width="2"/>' for cx, cy in column]
    text = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">\n' + "\n".join(lines + dots) + "\n</svg>\n"
    (NBS / "favicon.svg").write_text(text, encoding="utf-8")


def stills() -> None:
    "The last frame of each film, for whoever asks for less motion, and for paper."
    for path in sorted(NBS.glob("*.gif")):
        with Image.open(path) as image:
            image.seek(image.n_frames - 1)
            image.convert("RGB").quantize(128).save(path.with_suffix(".png"), optimize=True)


if __name__ == "__main__": film(), card(), icon(), stills()
