"""The graph of a model: variables, operator nodes, constants.

A :class:`ModelGraph` is built once from the records of a file (constants refer to the file's bytes) and never changed.
Planning works on a :class:`Graph`: copies of the nodes, whose shapes have been inferred. The type of a variable says
what is known of it, so that code that needs a shape cannot get a variable that has none:

===================  ===============================================================================================
:class:`AnyVar`      any variable; its spec may be unknown
:class:`Var`         its shape is known
:class:`DynamicVar`  its shape depends on data; its type is known before it is computed, its shape afterwards
===================  ===============================================================================================

Nodes have the same three forms: :class:`AnyNode`; :class:`Node`, whose variables all have known shapes; and
:class:`DynamicNode`, which reads known shapes and has a dynamic output. Nothing in the same graph reads that output.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from threading import Lock, RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from weakref import WeakValueDictionary, ref

import numpy as np

from megengine_lite._core.ir.declared_shape import DeclaredShape
from megengine_lite._core.ir.dtype import DType
from megengine_lite._records import field, record
from megengine_lite.errors import InternalError

if TYPE_CHECKING:
    from megengine_lite._core.system.shared_arrays import SharedArrays


class Constant:
    """An immutable array with an identity.

    ``key`` says where the value comes from: constants with equal keys of one model hold equal values. Keys are flat:
    hashing one takes the same time however the value was derived.

    ``shared`` is its array, if that lies in memory that processes share (:class:`ConstantPool`).
    ``scales`` is set for real numbers that are integers times a scale: the one scale, or those of the channels in
    order. What only moves the numbers keeps it.
    """

    __slots__ = ("__weakref__", "_value", "key", "scales", "shared")

    def __init__(self, array: np.ndarray, key: Hashable):
        self._value = array
        self.key = key
        self.scales: Constant | None = None
        self.shared: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        return self._value

    def keep_shared(self, array: np.ndarray) -> None:
        """Takes an equal array, in memory that processes share, instead of its own."""
        self.shared = array
        self._drop()

    def _drop(self) -> None:
        assert self.shared is not None
        self._value = self.shared

    def release(self) -> None:
        """Frees memory whose content can be made or read again when ``array`` is next asked for."""

    def keep_for(self, reader: object) -> None:
        """Announces a reader of the array. Once the array is made, it is kept as long as ``reader`` lives."""


class Reader:
    """Somebody who is going to read constants; keeps them alive meanwhile."""

    __slots__ = ("__weakref__",)


class DerivedConstant(Constant):
    """A constant computed from others when its array is first asked for.

    Its key is an object of its own, since the pool makes one constant for each recipe and parents. The array is kept
    until every announced reader has read it: constants that are derived from it, and plans.
    """

    __slots__ = ("_array", "_last", "_make", "_parents", "_readers")

    _lock = Lock()  # for the lists of readers

    def __init__(self, parents: Sequence[Constant], make: Callable[..., np.ndarray]):
        self.key = object()
        self.scales = None
        self.shared = None
        self._parents = parents
        self._make = make
        self._array: np.ndarray | None = None
        self._last: ref[np.ndarray] | None = None  # the array as long as somebody else has it
        self._readers: list[ref[object]] = []
        for parent in parents:
            parent.keep_for(self)

    @property
    def array(self) -> np.ndarray:
        found = self._existing()
        return self._compute() if found is None else found

    def _existing(self) -> np.ndarray | None:
        array = self._array  # another thread may release it meanwhile
        if array is None:
            array = self.shared
        if array is None and self._last is not None:
            array = self._last()
        return array

    def _compute(self) -> np.ndarray:
        """Makes the array, and first the arrays that it is derived from: each once, and kept only while it is read."""
        order, reads = self._missing()
        arrays: dict[Constant, np.ndarray] = {}
        for constant in order:
            existing = constant._existing()
            if existing is None:
                values = [p.array if (a := arrays.get(p)) is None else a for p in constant._parents]
                with np.errstate(all="ignore"):  # weights may be infinite or NaN
                    existing = constant._make(*values)
                constant._array = existing
                constant._last = ref(existing)
                for parent in constant._parents:
                    if parent in reads:
                        reads[parent] -= 1
                    if not reads.get(parent):
                        arrays.pop(parent, None)
                        parent.release()
            arrays[constant] = existing
        return arrays[self]

    def _missing(self) -> tuple[list[DerivedConstant], dict[Constant, int]]:
        """The constants that must be made for this one, parents first, and how often each of them is read meanwhile."""
        order: list[DerivedConstant] = []
        reads: dict[Constant, int] = {self: 1}
        stack: list[tuple[DerivedConstant, Iterator[Constant]]] = [(self, iter(self._parents))]
        while stack:
            constant, parents = stack[-1]
            for parent in parents:
                if parent in reads:
                    reads[parent] += 1
                elif isinstance(parent, DerivedConstant):
                    reads[parent] = 1
                    stack.append((parent, iter(parent._parents if parent._existing() is None else ())))
                    break
            else:
                order.append(constant)
                stack.pop()
        return order, reads

    @property
    def held_bytes(self) -> int:
        """Bytes of the array, 0 if there is none now."""
        array = self._array if self.shared is None else self.shared
        return 0 if array is None else array.nbytes

    def keep_for(self, reader: object) -> None:
        with self._lock:
            self._readers.append(ref(reader))

    def release(self) -> None:
        with self._lock:
            while self._readers:
                reader = self._readers[-1]()
                if reader is not None and not (isinstance(reader, DerivedConstant) and reader._last is not None):
                    return
                self._readers.pop()
        self._array = None

    def _drop(self) -> None:
        self._array = None


class ConstantPool:
    """Constants derived from a model's weights (folded, packed), found by recipe.

    Networks that share weights share the pool. A constant is made at its first use and lives as long as it is used.

    Parameters
    ----------
    shared
        Where plans put the constants that they keep, so that other processes have them, too.
    """

    def __init__(self, shared: SharedArrays | None = None) -> None:
        self.shared = shared
        self._derived: WeakValueDictionary[Hashable, DerivedConstant] = WeakValueDictionary()
        self._numbers: dict[Hashable, int] = {}
        self._lock = RLock()  # two threads that need the same constant must get the same

    def derive(self, recipe: Hashable, parents: Sequence[Constant], make: Callable[..., np.ndarray]) -> Constant:
        """``make(*arrays of parents)``; equal recipes and parents give the same constant.

        The constant keeps ``make``, and with it what that refers to: plain numbers, never the state of a plan.
        """
        key = (recipe, *(p.key for p in parents))
        found = self._derived.get(key)
        if found is None:
            with self._lock:
                found = self._derived.get(key)
                if found is None:
                    found = self._derived[key] = DerivedConstant(parents, make)
        return found

    def number(self, recipe: Hashable, parents: Sequence[Constant], make: Callable[..., int]) -> int:
        """``make(*arrays of parents)``, a number that is kept as long as the pool, so that no array is read again."""
        key = (recipe, *(p.key for p in parents))
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = make(*(p.array for p in parents))
        return found

    def after_fork(self) -> None:
        """After a fork: a thread that the child does not have may have held the locks."""
        self._lock, DerivedConstant._lock = RLock(), Lock()
        if self.shared is not None:
            self.shared.after_fork()

    @property
    def nbytes(self) -> int:
        """Bytes of the constants that exist at present."""
        with self._lock:
            constants = list(self._derived.values())
        return sum(c.held_bytes for c in constants)


@record(frozen=True, slots=True)
class TensorSpec:
    """Shape and type of a tensor, as planning knows them.

    ``value`` is set for constants and for small tensors computed from shapes (targets of reshapes and the like).
    """

    shape: tuple[int, ...]
    dtype: DType
    value: np.ndarray | None = field(default=None, compare=False)

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@record(frozen=True, slots=True)
class DynamicSpec:
    """What is known of a tensor whose shape depends on data: its type."""

    dtype: DType


Spec: TypeAlias = TensorSpec | DynamicSpec


NOT_NUMBERED = -1
"""Number of an output that its operator has today and that the file does not count."""


class AnyVar:
    """A variable: one output of one node, a graph input, or a constant. Before inference it may have no spec."""

    __slots__ = ("const", "id", "name", "spec")

    def __init__(self, id: int, name: str = "", spec: Spec | None = None, const: Constant | None = None):
        self.id = id
        self.name = name
        self.spec = spec
        self.const = const

    @property
    def constant(self) -> Constant:
        """``const`` of a variable that is known to have one."""
        if self.const is None:
            raise InternalError(f"{self} is no constant")
        return self.const

    def __repr__(self) -> str:
        return f"Var({self.id}, {self.name!r}, {self.spec})"


class Var(AnyVar):
    """A variable of known shape."""

    __slots__ = ()

    spec: TensorSpec

    if TYPE_CHECKING:

        def __init__(self, id: int, name: str, spec: TensorSpec, const: Constant | None = None): ...

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> DType:
        return self.spec.dtype


class DynamicVar(AnyVar):
    """A variable whose shape depends on data."""

    __slots__ = ()

    spec: DynamicSpec

    if TYPE_CHECKING:

        def __init__(self, id: int, name: str, spec: DynamicSpec): ...


class AnyNode:
    """One operator of the graph. ``op`` is the operator's name without revision suffix (``"Convolution"``)."""

    __slots__ = ("inputs", "name", "op", "output_dtype", "outputs", "params", "payload")

    inputs: Sequence[AnyVar]
    outputs: Sequence[AnyVar]

    def __init__(
        self,
        op: str,
        params: Any,
        inputs: Iterable[AnyVar],
        outputs: Iterable[AnyVar],
        name: str = "",
        output_dtype: DType | None = None,
        payload: tuple[bytes, ...] = (),
    ):
        self.op = op
        self.params = params
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.name = name
        self.output_dtype = output_dtype
        self.payload = payload

    def __repr__(self) -> str:
        return f"Node({self.op}, {self.name!r}, {[v.id for v in self.inputs]} -> {[v.id for v in self.outputs]})"


class Node(AnyNode):
    """A node whose variables all have known shapes."""

    __slots__ = ()

    inputs: list[Var]
    outputs: list[Var]

    if TYPE_CHECKING:

        def __init__(
            self,
            op: str,
            params: Any,
            inputs: Iterable[Var],
            outputs: Iterable[Var],
            name: str = "",
            output_dtype: DType | None = None,
            payload: tuple[bytes, ...] = (),
        ): ...


class DynamicNode(AnyNode):
    """A node that reads variables of known shapes. The shapes of some of its outputs depend on data."""

    __slots__ = ()

    inputs: list[Var]
    outputs: list[Var | DynamicVar]

    if TYPE_CHECKING:

        def __init__(
            self,
            op: str,
            params: Any,
            inputs: Iterable[Var],
            outputs: Iterable[Var | DynamicVar],
            name: str = "",
            output_dtype: DType | None = None,
            payload: tuple[bytes, ...] = (),
        ): ...


NodeT = TypeVar("NodeT", bound=AnyNode)
VarT = TypeVar("VarT", bound=AnyVar)


class _Graph(Generic[NodeT, VarT]):
    """Nodes in executable order, with the graph's inputs and outputs.

    ``inputs`` are variables without producer and constant, in file order; ``outputs`` may repeat a variable or
    name an input.
    """

    def __init__(self, nodes: list[NodeT], inputs: list[Var], outputs: list[VarT], output_names: list[str]):
        self.nodes = nodes
        self.inputs = inputs
        self.outputs = outputs
        self.output_names = output_names

    def consumers(self) -> dict[AnyVar, list[NodeT]]:
        """For each variable the nodes that read it, each node once."""
        table: dict[AnyVar, list[NodeT]] = {}
        for node in self.nodes:
            for v in dict.fromkeys(node.inputs):
                table.setdefault(v, []).append(node)
        return table

    def producers(self) -> dict[AnyVar, NodeT]:
        """The node that computes each variable, for all that are computed by a node."""
        return {v: node for node in self.nodes for v in node.outputs}

    def remove_dead(self) -> None:
        """Drops nodes none of whose outputs is read by a remaining node or by the caller."""
        alive: set[AnyVar] = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if not alive.isdisjoint(node.outputs):
                kept.append(node)
                alive.update(node.inputs)
        kept.reverse()
        self.nodes = kept

    def verify(self) -> None:
        """Checks that every variable is computed once, and before it is read.

        Raises
        ------
        InternalError
            That is not so. The pass or builder that made the graph has a fault.
        """
        defined: set[AnyVar] = set(self.inputs)
        for node in self.nodes:
            for v in node.inputs:
                if v not in defined and v.const is None:
                    raise InternalError(f"{node} reads {v}, which is not computed before it")
            for v in node.outputs:
                if v in defined:
                    raise InternalError(f"{node} computes {v}, which exists already")
                defined.add(v)
        for out in self.outputs:
            if out not in defined and out.const is None:
                raise InternalError(f"the output {out} is not computed")


class ModelGraph(_Graph[AnyNode, AnyVar]):
    """The graph of a model: as its file has it, or rewritten for another file.

    ``declared`` has the shapes of inputs in a format whose models depend on them. ``operators_in_file`` says which
    operator of the file a node was made for, by the node's name, where the file has others than the graph. ``scalars``
    has the outputs that have no dimensions in such a format, if that follows from the shapes that the graph is for.
    """

    declared: tuple[DeclaredShape, ...] = ()
    scalars: frozenset[AnyVar] = frozenset()
    operators_in_file: Mapping[str, str] = MappingProxyType({})

    def replace_uses(self, replaced: Mapping[AnyVar, AnyVar]) -> None:
        """Replaces variables: nodes and graph outputs that read a key now read its value. No value may be a key."""
        if not replaced:
            return
        for node in self.nodes:
            if not replaced.keys().isdisjoint(node.inputs):
                node.inputs = [replaced.get(v, v) for v in node.inputs]
        self.outputs = [replaced.get(v, v) for v in self.outputs]


class Graph(_Graph[Node | DynamicNode, Var | DynamicVar]):
    """A part of a model that is planned: all shapes are known, except for those of outputs that depend on data."""

    def convert(self, function: Callable[[Node], Node | None]) -> None:
        """Replaces nodes by what a function makes of them; it gives None for a node that stays."""
        self.nodes = [(function(node) or node) if isinstance(node, Node) else node for node in self.nodes]
