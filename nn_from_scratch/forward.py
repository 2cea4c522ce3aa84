"""The old name of functions, initial, tree, parameters, modules and layers: brings them all."""

from .functions import *
from .functions import cast as _cast
from .initial import *
from .layers import *
from .layout import *
from .modules import *
from .parameters import *
from .tree import *
from .tree import containers as _PARTS
from .tree import full_name as _join
from .tree import is_parameter as _is_parameter
from .tree import pairs as _items

from . import asking  # fills the table of what is asked
