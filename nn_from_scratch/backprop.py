"""For now: the former name of rules, calls, tape, walk, gradients and checking"""

import sys

from .rules import *
from .calls import composed, plain_functions
from .tape import *
from .walk import *
from .gradients import *
from .checking import *
from .numpy_rules import *  # the rows of the rest of NumPy
from .shape_rules import *
from .linalg_rules import *

unpacked = composed
__all__ = ["table", "plain_functions", "unpacked", "numeric_grad", "defvjp", "Tape", "record", "value_of", "Tensor",
           "walk_back", "value_and_grad", "grad", "graph", "stop_gradient", "grad_check"]


def __getattr__(name):
    "What was private here."
    former = {"_sum": "sum_rule", "_restore_axes": "restore_axes", "_like": "sum_to", "_same_tape": "same_tape", "_name": "name_of"}
    for room in ("rules", "tape", "walk", "gradients", "checking"):
        module = sys.modules[f"{__package__}.{room}"]
        if hasattr(module, former.get(name, name)): return getattr(module, former.get(name, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
