"""The content of a model file, in the same form for both generations of the format.

Records are as close to the file as possible, with two exceptions: names of operators are canonical (without revision
suffix), and what older releases wrote differently has today's form. A record can be read, but its parts may not fit
together; :mod:`megengine_lite._core.formats.mge.build` checks that when it makes the graph.
"""

from __future__ import annotations

from megengine_lite._core.formats.loaded_model import Metadata
from megengine_lite._core.formats.stored_values import TensorRecord
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.params import Param
from megengine_lite._records import field, record
from megengine_lite.errors import ModelFormatError

MAX_OPERATORS = 1 << 17


@record(slots=True)
class OperatorRecord:
    """One operator.

    Attributes
    ----------
    type
        Canonical name; ``""`` if the file's type id is unknown, which ``label`` then describes.
    label
        The type for messages: its name in the file, or the number of an unknown type.
    params
        The main parameter; None if there is none, or if the table ``param_code`` is unknown.
    inputs, outputs
        Numbers of variables.
    output_names
        Names of the outputs, as many as are stored; ``""`` for one without.
    """

    type: str
    label: str
    name: str
    params: Param | None
    param_code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_names: list[str]
    output_dtype: DType | None
    tensors: list[TensorRecord]
    payload: tuple[bytes, ...]

    def describe(self) -> str:
        """Type and name, for messages."""
        name = self.name or next((n for n in self.output_names if n), "")
        return f"{self.label} {name!r}" if name else self.label


@record(slots=True)
class ModelRecord:
    """A model file: operators in executable order, graph outputs as (variable, name or ``""``)."""

    container: str
    version: int
    operators: list[OperatorRecord] = field(default_factory=list)
    outputs: list[tuple[int, str]] = field(default_factory=list)
    variable_names: dict[int, str] = field(default_factory=dict)
    metadata: Metadata | None = None
    end: int = 0
    """Where the model ends in its window."""

    def add(self, operator: OperatorRecord, what: str) -> None:
        """Adds an operator, unless there are absurdly many."""
        if len(self.operators) == MAX_OPERATORS:
            raise ModelFormatError(f"{what}: more than {MAX_OPERATORS} operators")
        self.operators.append(operator)
