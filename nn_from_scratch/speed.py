"""For now: the former name of the room fast"""

import sys

from .fast import *


def __getattr__(name):
    "What was private here."
    return getattr(sys.modules[f"{__package__}.fast"], name)
