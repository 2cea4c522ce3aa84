"""Writes the package from the notebooks: python tools/export.py

nbdev's own export writes one module a notebook. Here a notebook may feed several: `#| export name` sends a cell to
nn_from_scratch/name.py, which is made afresh. The string that opens the first cell of such a module is its docstring.
"""

from __future__ import annotations

import ast
from pathlib import Path

from nbdev.config import add_init, get_config
from nbdev.doclinks import _build_modidx, nbglob
from nbdev.export import nb_export
from nbdev.maker import ModuleMaker


class Room(ModuleMaker):
    "A module, always written anew."

    def __init__(self, dest, name, nb_path, is_new=True, parse=True, solo_nb=False):
        super().__init__(dest, name, nb_path, is_new=True, parse=parse, solo_nb=solo_nb)

    def make(self, cells, all_cells=None, lib_path=None):
        super().make(cells, all_cells, lib_path)
        with_docstring_first(self.fname)


def with_docstring_first(path: Path):
    "Move the first string that stands alone in the module at `path` to its top, if it has no docstring."
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    if ast.get_docstring(tree) is not None: return
    text = next((node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                 and isinstance(node.value.value, str)), None)
    if text is None: return
    lines = source.splitlines()
    literal = lines[text.lineno - 1:text.end_lineno]
    rest = lines[:text.lineno - 1] + lines[text.end_lineno:]
    while not rest[text.lineno - 1]: del rest[text.lineno - 1]
    path.write_text("\n".join([*literal, "", *rest]) + "\n", encoding="utf-8")


def export():
    for path in nbglob(as_path=True).sorted("name"): nb_export(path, mod_maker=Room)
    add_init(get_config().lib_path)
    _build_modidx()


if __name__ == "__main__":
    export()
