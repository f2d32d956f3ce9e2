"""What loading a file gives, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING

from megengine_lite._core.ir.declared_shape import OpenShape
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import Constant, ModelGraph
from megengine_lite._records import field, record

if TYPE_CHECKING:
    from megengine_lite._core.formats.containers.information import Information
    from megengine_lite._core.formats.containers.packed import Package


@record(frozen=True, slots=True)
class Metadata:
    """What the dumping program said about the model.

    ``user_info`` stays bytes: dumps from Python have a pickle there, which must never be loaded from a file that is not
    trusted.
    """

    is_valid: bool = False
    graph_modified: bool = False
    user_info: bytes = b""
    optimize_options: int = 0


class ResultNames:
    """What a file calls the results of its operators, by the numbers of their variables.

    Files name tensors, operators or both, and programs that store results take the one or the other.

    Attributes
    ----------
    tensors
        Names of a tensor: several if operators in between only pass it on.
    operators
        Names of operators of which the tensor is the only result.
    """

    __slots__ = ("operators", "tensors")

    def __init__(self) -> None:
        self.tensors: dict[int, list[str]] = {}
        self.operators: dict[int, list[str]] = {}

    def add(self, number: int, tensor: str, operator: str) -> None:
        """Adds the names of a result; an empty one is none."""
        for names, name in ((self.tensors, tensor), (self.operators, operator)):
            if name:
                names.setdefault(number, []).append(name)

    def clear(self) -> None:
        """Forgets all: the variables will be others."""
        self.tensors.clear()
        self.operators.clear()


@record(slots=True)
class StoredTensor:
    """A tensor that a file stores, and the operators of the file that read it, each with its name, in order."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    size: int
    nbytes: int
    readers: dict[str, None] = field(default_factory=dict)


@record(slots=True)
class LoadedModel:
    """A loaded model.

    Attributes
    ----------
    graph
        Nodes, inputs in file order, outputs. Constants are views of the file's bytes and keep them alive.
    input_names
        Names of the inputs in the order in which the original lists them, which is not the file's.
    output_names
        Names of the outputs in model order.
    default_inputs
        Default values of inputs, where the file has them.
    container
        ``"v1"``, ``"v2"`` or ``"onnx"``.
    version
        Number of the release that wrote the file, as stored in the file.
    metadata
        What the program that dumped the model stored in it; None if nothing.
    package, information
        The package that contained the model, without the model, and the settings of the package. None if there is no
        package, or no valid settings.
    has_operator_names
        The file has names of operators, not only of variables.
    scalars
        Names of inputs and outputs that have no dimensions in a file whose format has such; here they have one.
    unsigned
        Inputs by name that are ``"uint32"`` or ``"uint64"`` in the file. Here they are int32: of the first it has the
        same bits, of the second the small numbers.
    other_files
        The files beside the model's that values of weights have been read from, if its format allows such.
    properties
        Texts by name that an ONNX model carries beside its graph, such as the characters that it reads.
    open_shapes
        Shapes of inputs and outputs by name, where the model leaves sizes of inputs open. None for an output of which
        the model says nothing.
    output_types
        Element types of outputs by name, where the file says them.
    problem
        Why the model can only be looked at; None if its graph is one that could run.
    as_in_file
        Makes the graph that the file has, to look at, where ``graph`` is a node that waits for the shapes of inputs.
    result_names
        What the file calls results, if its variables do not have these names. Of a graph that is made for the shapes of
        inputs, those of the last that was made.
    file_operators
        How often the file has each operator, those of branches and loops among them, where the graph has others.
    file_graph
        Makes the graph that the file has, to look at, where ``graph`` has other operators. None if the model was loaded
        to be run.
    stored_tensors
        The tensors of the file that its operators read, where the graph has others.
    is_secret
        The file, or the model in the package, is encrypted.
    stamp
        Of the file, before it was read: :func:`megengine_lite._core.system.files.file_stamp`.
    """

    graph: ModelGraph
    input_names: list[str]
    output_names: list[str]
    default_inputs: dict[str, Constant]
    container: str
    version: int
    metadata: Metadata | None
    package: Package | None = None
    information: Information | None = None
    has_operator_names: bool = False
    scalars: frozenset[str] = frozenset()
    unsigned: Mapping[str, str] = field(default_factory=dict)
    other_files: Sized = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    open_shapes: Mapping[str, OpenShape | None] = field(default_factory=dict)
    output_types: Mapping[str, DType] = field(default_factory=dict)
    problem: str | None = None
    as_in_file: Callable[[], ModelGraph] | None = None
    result_names: ResultNames | None = None
    file_operators: Mapping[str, int] | None = None
    file_graph: Callable[[], ModelGraph] | None = None
    stored_tensors: Sequence[StoredTensor] | None = None
    is_secret: bool = False
    stamp: tuple[int, ...] | None = None

    def names_of_results(self) -> ResultNames:
        """What the file calls the results of its operators."""
        return self._names_in_graph() if self.result_names is None else self.result_names

    def _names_in_graph(self) -> ResultNames:
        """Those that variables and nodes have. Further outputs of a node that nobody reads are for its own use."""
        found = ResultNames()
        read = {v for node in self.graph.nodes for v in node.inputs} | {*self.graph.outputs}
        for node in self.graph.nodes:
            alone = not any(v in read for v in node.outputs[1:])
            for k, variable in enumerate(node.outputs):
                found.add(variable.id, variable.name, node.name if alone and not k else "")
        return found

    def listed_graph(self) -> ModelGraph:
        """The graph with the operators and the constants of the file."""
        return self.graph if self.as_in_file is None else self.as_in_file()
