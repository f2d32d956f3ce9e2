"""Commands of the command line, one per module; see :mod:`megengine_lite.cli`."""
