"""The version of this package; it follows that of the hub."""

__version__ = "0.1.0"
