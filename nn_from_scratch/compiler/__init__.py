"""A function traced once, shortened, given its memory, written out as NumPy calls, and replayed.

nodes, traced -> trace -> backward -> passes -> memory, loops -> write -> tracing -> update, replay
"""

from .replay import compile, training_step
from .nodes import Looked

__all__ = ["Looked", "compile", "training_step"]
