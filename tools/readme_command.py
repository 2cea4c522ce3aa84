"""Prints a command that README.md tells its reader to type, so that what is checked is what is read.

    python tools/readme_command.py main     installs the package and trains a network
    python tools/readme_command.py test     installs what the tests need and runs them
    python tools/readme_command.py read     opens the chapters in JupyterLab

With `windows` after it, the form for Windows.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
MARKS = {"main": "nn_train", "test": "pytest", "read": "jupyter lab"}
BLOCKS = {"": "sh", "windows": "bat"}


def command(which: str, system: str = "") -> str:
    "The one line in README's blocks of that kind that contains the mark of `which`."
    kind = BLOCKS[system]
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    found = [line for line in lines if MARKS[which] in line]
    if len(found) != 1: raise SystemExit(f"README.md has {len(found)} lines with {MARKS[which]!r} in its ```{kind} blocks, not one")
    return found[0]


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3 or sys.argv[1] not in MARKS or sys.argv[-1] not in {*MARKS, "windows"}: raise SystemExit(__doc__)
    print(command(*sys.argv[1:]))
