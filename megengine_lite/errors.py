"""Exceptions of the package: everything that it raises on purpose is a :class:`LiteError`.

``LiteError`` is a ``RuntimeError``, as in the original package; each kind is in addition the Python exception
that code would expect for it, so both styles of ``except`` work.
"""

__all__ = [
    "DecryptionError",
    "DeviceError",
    "InternalError",
    "LiteArgumentError",
    "LiteAttributeError",
    "LiteError",
    "LiteFileNotFoundError",
    "LiteIndexError",
    "LiteTypeError",
    "LiteValueError",
    "LiteWarning",
    "ModelFormatError",
    "ShapeError",
    "UnsupportedOperatorError",
]


class LiteError(RuntimeError):
    """Base of all errors of megengine_lite."""


class ModelFormatError(LiteError, ValueError):
    """A file is not a model, is damaged, or contradicts itself."""


class UnsupportedOperatorError(LiteError, NotImplementedError):
    """A model needs operators, types or layouts that this runtime does not have. All of them are listed."""


class DeviceError(LiteError):
    """A device was asked for that this machine or this build does not have."""


class DecryptionError(LiteError):
    """A model could not be decrypted: wrong key, wrong method, or a damaged file."""


class ShapeError(LiteError, ValueError):
    """Shapes do not fit an operator or a tensor."""


class InternalError(LiteError):
    """A fault of megengine_lite itself, not of the model or the program; please report it."""


class LiteArgumentError(LiteError, AssertionError):
    """An argument breaks a rule of the call (the original raised ``AssertionError`` here)."""


class LiteValueError(LiteError, ValueError):
    """An argument has the right type and a value that cannot be."""


class LiteAttributeError(LiteError, AttributeError):
    """A settings object has no such field."""


class LiteTypeError(LiteError, TypeError, KeyError):
    """An argument or an element type is not supported."""

    def __str__(self) -> str:  # KeyError would show the repr
        return RuntimeError.__str__(self)


class LiteIndexError(LiteError, IndexError):
    """An index is out of range."""


class LiteFileNotFoundError(LiteError, FileNotFoundError):
    """A file does not exist. ``errno`` and ``filename`` are set as in every ``OSError`` of two or three arguments."""

    def __new__(cls, *args: object) -> "LiteFileNotFoundError":  # RuntimeError's would leave the fields empty
        return FileNotFoundError.__new__(cls, *args)

    __str__ = FileNotFoundError.__str__


class LiteWarning(UserWarning):
    """Something was not as it should be and work went on."""
