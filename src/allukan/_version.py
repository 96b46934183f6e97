"""The version, read by the build and written into every checkpoint."""

__version__ = "0.2.0.dev0"
