"""Trains the small GPT that the playground's page of letters shows, with the project's own command, and puts its file there.

    python tools/make_letters.py        a minute or two of one core: writes playground/names.safetensors (233 kB)

It learns first names of the United States Census Bureau (in the public domain; `load_names`), one a line, in an order drawn at random.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import nn_from_scratch as nn

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = "--context 16 --width 48 --layers 2 --steps 1500 --lr 0.005".split()


def main() -> None:
    names = nn.load_names()
    order = np.random.default_rng(0).permutation(len(names))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "names.txt").write_text("\n".join(names[i] for i in order) + "\n", encoding="ascii")
        command = [sys.executable, "-m", "nn_from_scratch", "--text", "names.txt", *OPTIONS]
        subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
        shutil.copy(Path(folder) / "runs" / "names-1" / "model.safetensors", ROOT / "playground" / "names.safetensors")


if __name__ == "__main__": main()
