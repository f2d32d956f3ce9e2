"""What a program wants of inputs and outputs. Public under :mod:`megengine_lite.network`, as in the original."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

from megengine_lite._api.arguments import to_list
from megengine_lite._api.layout import LiteLayout
from megengine_lite._api.options import CheckedFields, to_text
from megengine_lite._core.system.integers import to_integer
from megengine_lite.errors import LiteTypeError, LiteValueError, brief
from megengine_lite.struct import LiteIOType

__all__ = ["LiteIO", "LiteNetworkIO"]


class LiteIO(CheckedFields):
    """What a program wants of an input or output of a network.

    Parameters
    ----------
    name
        Name of the tensor.
    is_host
        Whether the tensor is in host memory. On a CPU everything is.
    io_type
        ``LITE_IO_SHAPE`` for an output whose layout alone is wanted: it is not computed.
    layout
        Input: its shape, and its element type if the layout names one. Output: what the result must have.

    Notes
    -----
    Hashes and compares like its name: dicts that callbacks get can be looked up by name, ``ios["data"]``.
    """

    _integers = ("is_host",)
    __slots__ = ("_config_layout", "_io_type", "_name", "is_host")

    is_host: int

    def __init__(
        self,
        name: str | bytes,
        is_host: bool | int = True,
        io_type: LiteIOType | int = LiteIOType.LITE_IO_VALUE,
        layout: LiteLayout | Iterable[int] | None = None,
    ) -> None:
        if not isinstance(name, str | bytes):
            raise LiteTypeError(f"the name of an input or output is a str or bytes, not {type(name).__name__}")
        self.name = name
        self.is_host = is_host
        self.io_type = io_type
        self.config_layout = LiteLayout() if layout is None else layout

    @property
    def name(self) -> str:
        """Name of the tensor; may be assigned as bytes, too."""
        name: str = self._name
        return name

    @name.setter
    def name(self, name: str | bytes) -> None:
        self._name = to_text("name", name)

    @property
    def io_type(self) -> LiteIOType:
        """Value or shape only."""
        io_type: LiteIOType = self._io_type
        return io_type

    @io_type.setter
    def io_type(self, io_type: LiteIOType | int) -> None:
        number = to_integer(io_type, "io_type", bools=True)
        if number not in (0, 1):
            raise LiteValueError(f"io_type is LITE_IO_VALUE (0) or LITE_IO_SHAPE (1), not {number}")
        self._io_type = LiteIOType(number)

    @property
    def config_layout(self) -> LiteLayout:
        """The wanted layout; without dimensions if none is."""
        layout: LiteLayout = self._config_layout
        return layout

    @config_layout.setter
    def config_layout(self, layout: LiteLayout | Iterable[int]) -> None:
        self._config_layout = copy(layout) if isinstance(layout, LiteLayout) else LiteLayout(layout)

    def __hash__(self) -> int:
        return hash(self._name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LiteIO):
            return bool(self._name == other._name)
        if isinstance(other, str):
            return bool(self._name == other)
        return NotImplemented

    def __repr__(self) -> str:
        return str(
            {
                "name": self.name,
                "is_host": bool(self.is_host),
                "io_type": self.io_type,
                "config_layout": self.config_layout,
            }
        )


class _IOCounts:
    """How many inputs and outputs a :class:`LiteNetworkIO` describes."""

    __slots__ = ("input_size", "output_size")

    def __init__(self, input_size: int, output_size: int):
        self.input_size = input_size
        self.output_size = output_size


class LiteNetworkIO:
    """What a program wants of the inputs and outputs of a network; those not listed are as the model has them.

    Parameters
    ----------
    inputs, outputs
        Lists of :class:`LiteIO`, of names, or of argument lists of ``LiteIO``: ``["data", False]``.

    Examples
    --------
    >>> io = LiteNetworkIO(inputs=[LiteIO("data", layout=LiteLayout([4, 3, 224, 224]))])
    >>> io.add_output("prob", io_type=LiteIOType.LITE_IO_SHAPE)
    >>> [o.name for o in io.outputs]
    ['prob']
    """

    def __init__(self, inputs: Iterable[Any] | None = None, outputs: Iterable[Any] | None = None):
        self.inputs: list[LiteIO] = _to_ios("inputs", inputs)
        self.outputs: list[LiteIO] = _to_ios("outputs", outputs)

    def add_input(
        self,
        obj: LiteIO | str | bytes,
        is_host: bool | int = True,
        io_type: LiteIOType | int = LiteIOType.LITE_IO_VALUE,
        layout: LiteLayout | Iterable[int] | None = None,
    ) -> None:
        """Adds an input: a :class:`LiteIO`, or a name and the other arguments of one."""
        self.inputs.append(obj if isinstance(obj, LiteIO) else LiteIO(obj, is_host, io_type, layout))

    def add_output(
        self,
        obj: LiteIO | str | bytes,
        is_host: bool | int = True,
        io_type: LiteIOType | int = LiteIOType.LITE_IO_VALUE,
        layout: LiteLayout | Iterable[int] | None = None,
    ) -> None:
        """Adds an output: a :class:`LiteIO`, or a name and the other arguments of one."""
        self.outputs.append(obj if isinstance(obj, LiteIO) else LiteIO(obj, is_host, io_type, layout))

    def _create_network_io(self) -> _IOCounts:
        return _IOCounts(len(self.inputs), len(self.outputs))

    def __repr__(self) -> str:
        return str({"inputs": self.inputs, "outputs": self.outputs})


def to_io(item: Any) -> LiteIO:
    """An input or output in one of the forms that :class:`LiteNetworkIO` takes."""
    if isinstance(item, LiteIO):
        return item
    if isinstance(item, str | bytes):
        return LiteIO(item)
    if isinstance(item, list | tuple) and item:
        return LiteIO(*item)
    raise LiteTypeError(f"an input or output is a LiteIO, a name, or a list of LiteIO arguments, not {brief(item)}")


def _to_ios(name: str, items: Iterable[Any] | None) -> list[LiteIO]:
    if items is None:
        return []
    if isinstance(items, str | bytes | LiteIO) or not isinstance(items, Iterable):
        raise LiteTypeError(f"{name} are a list of LiteIO or names, not {type(items).__name__}")
    return to_list(items, f"the list of {name}", None, to_io)
