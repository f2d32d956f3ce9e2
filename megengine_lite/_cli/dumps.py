"""Readers of every operator's results, for the flags of ``run`` that need them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from megengine_lite._api.diagnostics import Dump, list_operators
from megengine_lite._core.reports.io_dump import BinaryDump, TextDump
from megengine_lite._records import replace
from megengine_lite.errors import LiteError

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork
    from megengine_lite._core.reports.trace import TracedOperator, TracedValue


class StreamDump(TextDump):
    """Writes to a stream that is open already."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._recording = self._recorded = ""

    def _append(self, texts: Iterable[str]) -> None:
        self._stream.writelines(texts)
        self._stream.flush()


class OutputDump(BinaryDump):
    """Writes the outputs of each run into a directory: ``run<k>-var<number>``.

    The values are those of the run itself; the records only give the description in the files.
    """

    def __init__(self, directory: str, network: LiteNetwork):
        super().__init__(directory)
        self._names = _output_names(network)
        self._outputs: list[tuple[TracedOperator, TracedValue]] = []
        self._runs = 0

    def write(self, records: Iterable[TracedOperator], lazy: bool = False) -> None:
        """Remembers the outputs."""
        self._outputs = [(r, v) for r in records for v in r.outputs if v.number in self._names]

    def write_outputs(self, network: LiteNetwork) -> None:
        """Writes the outputs of the last run."""
        for record, value in self._outputs:
            array = network.get_io_tensor(self._names[value.number]).to_numpy()
            path = os.path.join(self._directory, f"run{self._runs}-var{value.number}")
            self._write(path, record, replace(value, array=array))
        self._runs += 1


def _output_names(network: LiteNetwork) -> dict[int, str]:
    """Names of the outputs by the numbers that dumps have for them."""
    engine = network._loaded("bin_out_dump")
    numbers = {
        var: number
        for operator in list_operators(engine)
        for var, number in zip(operator.outputs, operator.numbers, strict=True)
    }
    graph = engine.model.graph
    return {numbers[v]: name for name, v in zip(graph.output_names, graph.outputs, strict=True)}


class RangeCheck:
    """Raises if a value of an operator is beyond a limit, or not a number.

    Quantized numbers count as the real numbers that they stand for. Integers are shapes and indices, and are not
    checked.
    """

    def __init__(self, limit: float):
        self._limit = limit

    def write(self, records: Iterable[TracedOperator], lazy: bool = False) -> None:
        """Checks a run."""
        for record in records:
            for value in record.outputs:
                self._check(value)

    def finish(self) -> None:
        """Does nothing: everything has been checked."""

    def _check(self, value: TracedValue) -> None:
        array: np.ndarray = value.array
        if value.dtype.is_quantized:
            array = (array.astype(np.float64) - (value.dtype.zero_point or 0)) * value.dtype.scale
        elif array.dtype.kind != "f":
            return
        wrong = ~(np.abs(array) <= self._limit)
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), array.shape)
            raise LiteError(
                f"variable {value.name!r} has the value {float(array[place]):g} at {[int(i) for i in place]}: that is "
                f"beyond {self._limit:g}, the limit of --range ({int(wrong.sum())} of its {array.size} values are)"
            )


class _Together:
    """Hands the records of a run to several readers."""

    def __init__(self, readers: list[Any]):
        self._readers = readers

    def write(self, records: Iterable[TracedOperator], lazy: bool = False) -> None:
        ran = list(records)
        for reader in self._readers:
            reader.write(ran, lazy)

    def finish(self) -> None:
        for reader in self._readers:
            reader.finish()


def observe(network: LiteNetwork, readers: list[Any]) -> None:
    """Gives the readers every operator's results of each run of a network."""
    network._dump = Dump(_Together(readers))  # type: ignore[arg-type]  # it is read like any form
    network._tell_engine()
