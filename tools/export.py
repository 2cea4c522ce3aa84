"""Writes the package from the notebooks: `python tools/export.py`, in place of nbdev_export.

nbdev writes one module a notebook. Here a notebook may feed several: `#| export room` and `#| exports room` send a cell to
that room, and each room has one notebook. The first cell of a room begins with a string, which becomes its docstring.
"""

import ast
import os
from pathlib import Path

from nbdev.config import get_config
from nbdev.doclinks import _build_modidx, nbglob
from nbdev.export import nb_export
from nbdev.maker import ModuleMaker

ROOT = Path(__file__).resolve().parent.parent


class Room(ModuleMaker):
    "Writes the whole file of a module, also where it is not the notebook's own."

    def __init__(self, dest, name, nb_path, is_new=True, **options):
        super().__init__(dest, name, nb_path, is_new=True, **options)

    def make(self, cells, all_cells=None, lib_path=None):
        super().make(cells, all_cells, lib_path)
        text = self.fname.read_text(encoding="utf-8")
        self.fname.write_text(docstring_first(text), encoding="utf-8", newline="\n")


def docstring_first(text: str) -> str:
    "`text` of a module, the first string that stands by itself moved to the top, if there is no docstring yet."
    body = ast.parse(text).body
    strings = [node for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
               and isinstance(node.value.value, str)]
    if ast.get_docstring(ast.Module(body, [])) is not None or not strings:
        return text
    lines, first = text.split("\n"), strings[0]
    docstring = lines[first.lineno - 1:first.end_lineno]
    rest = lines[first.end_lineno:]
    while rest and not rest[0].strip(): rest.pop(0)
    return "\n".join([*docstring, "", *lines[:first.lineno - 1], *rest])


def export():
    os.chdir(ROOT)
    for path in nbglob(path=ROOT / "nbs", as_path=True).sorted("name"):
        nb_export(path, lib_path=get_config().lib_path, mod_maker=Room)
    _build_modidx()


if __name__ == "__main__": export()
