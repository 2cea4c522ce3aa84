__version__ = "0.1.0"

# The imports below are written by hand; nbdev only sets the version above.
