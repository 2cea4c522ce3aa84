"""The old name of functions, initial, tree, parameters, modules and layers: brings them all."""

from .functions import *
from .functions import as_dtype as _cast
from .initial import *
from .layers import *
from .modules import *
from .parameters import *
from .tree import *
from .tree import containers as _PARTS
from .tree import full_name as _join
from .tree import is_parameter as _is_parameter
from .tree import pairs as _items

__all__ = [name for name in dir() if name[0] != "_"]
