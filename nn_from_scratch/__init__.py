__version__ = "0.1.0"

# The imports below are written by hand; nbdev only sets the version above.
from nn_from_scratch.forward import *
from nn_from_scratch.losses import *
from nn_from_scratch.metrics import *
from nn_from_scratch.backprop import *
from nn_from_scratch.numpy_rules import *
from nn_from_scratch.speed import *
from nn_from_scratch.optim import *
from nn_from_scratch.modern import *
from nn_from_scratch import quick_steps, settings  # which fill the tables: a quicker form of the rules, what is asked of settings
from nn_from_scratch.training import *
from nn_from_scratch.data import *
from nn_from_scratch.plots import *
from nn_from_scratch.sharing import *


def __getattr__(name):  # the estimators need scikit-learn, an extra: it is imported when one of them is asked for
    if name in ("NeuralNetworkClassifier", "NeuralNetworkRegressor"):
        from nn_from_scratch import estimators
        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
