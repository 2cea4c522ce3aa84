"""temporary"""
import math
import numpy as np
sample_parts = ("x", "y", "weight")
def whole(who, name, n):
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"{who}: {name} must be a whole number of at least 1, not {n!r}")
    return int(n)
def count_or_none(who, name, n): return n if n is None else whole(who, name, n)
def positive(who, name, v):
    if not v > 0: raise ValueError(f"{who}: {name} must be positive, not {v!r}")
    return v
def at_least_0(who, name, v):
    if not v >= 0: raise ValueError(f"{who}: {name} must be at least 0, not {v!r}")
    return v
def share(who, name, v):
    if not 0 < v < 1: raise ValueError(f"{who}: {name} must be above 0 and below 1, not {v!r}")
    return v
def lengths(who, arrays):
    shapes = ", ".join(f"{part} is {a.shape}" for part, a in zip(sample_parts, arrays, strict=False))
    if any(a.ndim == 0 for a in arrays) or len({len(a) for a in arrays}) > 1:
        raise ValueError(f"{who}: {' and '.join(sample_parts[:len(arrays)])} must have one row for each sample, but {shapes}")
    if len(arrays[0]) == 0:
        raise ValueError(f"{who}: there are no samples: {shapes}")
    return arrays
def finite(name, part, a):
    if a.dtype.kind == "f" and not math.isfinite(np.vdot(a, a)) and not np.isfinite(a).all():  # one quick pass, if all is well
        bad = np.argwhere(~np.isfinite(a))
        first = tuple(bad[0].tolist())
        raise ValueError(f"{name}: {part} is not finite in {len(bad)} of {a.size:,} places, first {a[first]} in row {first[0]}"
                         + (f", column {', '.join(map(str, first[1:]))}" if first[1:] else "")
                         + " (counted from 0): fill them in or leave those rows out")
    return a
def kind(name, what, thing, type, words):
    if not isinstance(thing, type): raise TypeError(f"{name}: {what} must be {words}, not {name_of(thing)}")
    return thing
def name_of(thing): return getattr(thing, "__name__", None) or type(thing).__name__
def counted(n, what): return f"{n} {what}{'s' * (n != 1)}"
