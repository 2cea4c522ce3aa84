"""The examples a network learns from: toy sets and digits, MNIST, splitting and standardising."""

from .augment import augmented, cutout, mixup, noise, rotate, shift
from .mnist import load_mnist, read_idx
from .pictures import flip, load_cifar10, load_fashion_mnist, zoom
from .prepare import Standardize, train_valid_split
from .texts import load_names, load_text
from .toy import circles, load_digits, moons, regression, spiral, xor

__all__ = ["moons", "circles", "spiral", "xor", "regression", "load_digits", "read_idx", "load_mnist", "load_names", "load_text",
           "train_valid_split", "Standardize", "shift", "rotate", "noise", "cutout", "mixup", "augmented",
           "load_fashion_mnist", "load_cifar10", "flip", "zoom"]
