"""Prints a command that README.md tells its reader to type, so that what is checked is what is read.

    python tools/readme_command.py main     installs the package and trains a network
    python tools/readme_command.py test     installs what the tests need and runs them
    python tools/readme_command.py read     opens the chapters in JupyterLab
"""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
MARKS = {"main": "nn_train", "test": "pytest", "read": "jupyter lab"}


def command(which: str) -> str:
    "The one line in README's shell blocks that contains the mark of `which`."
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    found = [line for line in lines if MARKS[which] in line]
    if len(found) != 1: raise SystemExit(f"README.md has {len(found)} lines with {MARKS[which]!r} in its ```sh blocks, not one")
    return found[0]


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in MARKS: raise SystemExit(__doc__)
    print(command(sys.argv[1]))
