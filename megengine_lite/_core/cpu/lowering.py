"""The context of lowering: which tensors are in memory, and the calls that make tensors and steps.

A lowering function takes ``(ctx, node)`` and emits steps. The table of :mod:`~megengine_lite._core.cpu.lower.table`
says which function takes which nodes. If a function cannot do a node, it returns False before it has emitted anything;
the node then runs as a Python step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from megengine_lite._core.cpu.dispatch import DispatchTable, InputLayout
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.native_plan import Fault
from megengine_lite._core.cpu.placement import Placement
from megengine_lite._core.cpu.steps import HostStep, MemoryPiece, Ref, Step, Tensor
from megengine_lite._core.device.plan import Origin
from megengine_lite._core.ir.graph import (
    AnyNode,
    AnyVar,
    Constant,
    ConstantPool,
    DynamicNode,
    Graph,
    Node,
    TensorSpec,
    Var,
)
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._records import field, record, replace
from megengine_lite.errors import InternalError, LiteError, LiteIndexError
from megengine_lite.kernels.common.shared_constants import SLACK, Weights
from megengine_lite.kernels.common.tiling import STREAM_BYTES

# A step with less work than this runs on one thread: waking and joining the others would cost more.
SERIAL_BYTES = 48 * 1024
SERIAL_FLOPS = 400_000
# Bytes that one work item of a copy or a fill moves.
COPY_BYTES = 64 * 1024


def _wanted_halo(
    consumers: Mapping[AnyVar, Sequence[Node | DynamicNode]], table: DispatchTable, var: Var
) -> tuple[int, int]:
    """The halo (rows, pixels) that the nodes that read a variable want around it."""
    h = w = 0
    for node in consumers.get(var, ()):
        if not isinstance(node, Node):
            continue  # it runs in numpy
        for k, v in enumerate(node.inputs):
            if v is var:
                wh, ww = table.halo(node, k)
                h, w = max(h, wh), max(w, ww)
    return h, w


@record
class Lowering:
    """State of lowering one stage of a graph; see docs/architecture.md, "Lowering context"."""

    graph: Graph
    kernels: KernelSet
    pool: ConstantPool
    config: SessionConfig
    table: DispatchTable
    steps: list[Step | HostStep] = field(default_factory=list)
    pieces: list[MemoryPiece] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.width = self.kernels.width
        self.weights = Weights[self.config.precision.upper()]  # of the float32 kernels that take several kinds
        self._plain: dict[Var, Tensor] = {}
        self._blocked: dict[Var, list[Tensor]] = {}
        self._constants: dict[int, MemoryPiece] = {}
        self._consumers = self.graph.consumers()
        self._outputs = frozenset(self.graph.outputs)
        # Not a method: with a reference to this object only the garbage collector would free it, and the weights.
        self._placement = Placement(self.graph, self.width, partial(_wanted_halo, self._consumers, self.table))
        self._wholes: dict[Var, Tensor] = {}  # memory of concatenations of which a part has been computed
        self._origins: dict[AnyNode, Origin] = {}
        self._non_negative: set[Var] = set()
        self._narrowed: dict[Var | tuple[Var, int, int], Ref] = {}  # of plain tensors; of blocked ones, with the halo
        self._without_halo: dict[MemoryPiece, dict[str, Any]] = {}  # how the halo of memory is filled, if that is open

    def add_input(self, var: Var, tensor: Tensor) -> None:
        """A variable that exists before the stage runs."""
        self._plain[var] = tensor

    def constants(self) -> list[MemoryPiece]:
        """The memory of all constants in use."""
        return list(self._constants.values())

    def tensors(self) -> Iterator[tuple[Var, Tensor]]:
        """All variables in memory, each in every layout that it has."""
        yield from self._plain.items()
        yield from ((var, t) for var, tensors in self._blocked.items() for t in tensors)

    def made(self, var: AnyVar) -> Tensor | None:
        """Where the node that makes a variable puts it, if that has been lowered and no reader of it has."""
        if not isinstance(var, Var):
            return None
        return self._blocked[var][0] if var in self._blocked else self._plain.get(var)

    def lower(self, node: Node) -> bool:
        """Emits the steps of a node by its row of the table; False if there is no kernel for it."""
        first_blocked = bool(node.inputs) and self.is_blocked(node.inputs[0]) and not self.is_plain(node.inputs[0])
        row = self.table.find(node, InputLayout.BLOCKED if first_blocked else InputLayout.PLAIN)
        return row is not None and row.lower(self, node) is not False

    # ---- inputs -------------------------------------------------------------------------------------------------

    def plain(self, var: Var) -> Tensor:
        """The variable, dense and row-major."""
        found = self._plain.get(var)
        if found is None:
            if var.const is not None:
                found = Tensor(var.spec, self.constant(var.const))
            else:
                found = self._to_plain(var)
            self._plain[var] = found
        return found

    def blocked(self, var: Var, halo_h: int = 0, halo_w: int = 0) -> Tensor:
        """The 4-dimensional variable in blocked layout, with at least the given halo."""
        for t in self._blocked.get(var, ()):
            if t.halo_h >= halo_h and t.halo_w >= halo_w:
                return t
        if existing := self._blocked.get(var):
            want_h, want_w = self.halo(var)
            out = self._allocate_blocked(var.spec, max(halo_h, want_h), max(halo_w, want_w))
            self.copy_blocked(existing[0], out, var)
            existing.append(out)
            return out
        src = self.plain(var)
        out = self.new_blocked(var)
        self._relayout("relayout_to_blocked", src, out, var)
        return self.blocked(var, halo_h, halo_w)

    def is_blocked(self, var: Var) -> bool:
        """Whether the variable exists in blocked layout already."""
        return var in self._blocked

    def is_plain(self, var: Var) -> bool:
        """Whether the variable exists dense and row-major already (constants do)."""
        return var in self._plain or var.const is not None

    def is_non_negative(self, var: Var) -> bool:
        """Whether all numbers of a symmetric quantized variable are known to be 0 or more."""
        return var in self._non_negative

    def mark_non_negative(self, variables: Iterable[Var]) -> None:
        """Notes that the symmetric ones of these variables are never negative."""
        self._non_negative.update(v for v in variables if not v.dtype.zero_point)

    def consumers(self, var: Var) -> list[Node | DynamicNode]:
        return self._consumers.get(var, [])

    def is_read(self, var: Var) -> bool:
        """Whether anybody wants the variable; kernels may leave out an output that nobody reads."""
        return var in self._consumers or var in self._outputs

    def halo(self, var: Var) -> tuple[int, int]:
        """The halo that readers of the variable want."""
        return _wanted_halo(self._consumers, self.table, var)

    # ---- outputs ------------------------------------------------------------------------------------------------

    def new_plain(self, var: Var) -> Tensor:
        """Memory for an output, dense and row-major."""
        t = Tensor(var.spec, Ref(self._new_piece(var.spec.nbytes)))
        self._plain[var] = t
        return t

    def new_blocked(self, var: Var) -> Tensor:
        """Memory for an output in blocked layout; its halo is zero (the zero point)."""
        t = self.place_of(var)
        self._blocked[var] = [t]
        return t

    def alias(self, var: Var, tensor: Tensor, offset: int = 0) -> None:
        """The output is a dense view of a plain tensor, ``offset`` bytes from its start."""
        self._plain[var] = Tensor(var.spec, tensor.ref + offset)

    def alias_blocked(self, var: Var, tensor: Tensor) -> None:
        """The output is this blocked tensor (same memory, the variable's shape)."""
        self._blocked.setdefault(var, []).append(tensor)

    # ---- concatenations -----------------------------------------------------------------------------------------

    def place_of(self, var: Var) -> Tensor:
        """The memory of a blocked tensor, to be written: its place in the concatenation that it goes to, or its own."""
        place = self._placement.outermost(var)
        whole = self._wholes.get(place.whole)
        if whole is None:
            whole = self._allocate_blocked(place.whole.spec, *self._placement.halo(place.whole))
            if self._placement.has_parts(place.whole):
                self._wholes[place.whole] = whole
        return whole.slice_blocks(var.spec, place.first_block)

    def is_written_to(self, var: Var, tensor: Tensor) -> bool:
        """Whether the variable has been computed into just this memory."""
        return any(t.ref == tensor.ref for t in self._blocked.get(var, ()))

    # ---- memory -------------------------------------------------------------------------------------------------

    def constant(self, constant: Constant) -> Ref:
        """Address of a constant's value (made contiguous if it is not)."""
        piece = self._constants.get(id(constant))
        if piece is None:
            array = np.ascontiguousarray(constant.array)
            owner = (constant, array)
            piece = MemoryPiece(array.nbytes, MemoryPiece.CONSTANT, owner, array.ctypes.data)
            self._constants[id(constant)] = piece
        return Ref(piece)

    def temp(self, nbytes: int) -> Ref:
        """Memory for the steps of this node only."""
        return Ref(self._new_piece(nbytes))

    def temp_blocked(self, spec: TensorSpec, halo_h: int = 0, halo_w: int = 0) -> Tensor:
        """The same in blocked layout; nobody fills its halo."""
        n, c, h, w = spec.shape
        width, item = self.width, spec.dtype.itemsize
        row = (w + 2 * halo_w) * width
        image = -(-c // width) * (h + 2 * halo_h) * row
        ref = self.temp(n * image * item) + (halo_h * row + halo_w * width) * item
        return Tensor(spec, ref, width, halo_h, halo_w, image)

    def narrowed(self, node: Node, x: Ref, numbers: int) -> Ref:
        """So many float32 numbers as bfloat16, for the steps of this node."""
        y = self.temp(2 * numbers + SLACK)
        work = -(-numbers // self.kernels.module("narrow").NUMBERS)
        self.emit("narrow_bf16", node, x=x, y=y, n=numbers, work=work)
        return y

    def plain_pairs(self, node: Node, var: Var) -> Ref:
        """A plain float32 tensor as bfloat16, made once for all nodes that read the variable."""
        if var not in self._narrowed:
            self._narrowed[var] = self.narrowed(node, self.plain(var).ref, var.spec.size)
        return self._narrowed[var]

    def blocked_pairs(self, node: Node, var: Var, x: Tensor) -> Tensor | None:
        """A blocked float32 tensor as pairs of bfloat16, each of which counts as a number.

        It is made once for all nodes that read the variable. None if the images of the tensor lie apart.
        """
        if x.n > 1 and x.image != x.blocks * x.plane:
            return None
        border = x.halo_h * x.row + x.halo_w * x.width
        key = var, x.halo_h, x.halo_w
        if key not in self._narrowed:
            self._narrowed[key] = self.narrowed(node, x.ref + -4 * border, x.n * x.blocks * x.plane)
        return replace(x, ref=self._narrowed[key] + 2 * border, width=x.width // 2, image=x.image // 2)

    def fault(self, message: str, error: type[LiteError] = LiteIndexError) -> Ref:
        """An int32 that kernels set when data is wrong (an index that is out of range); the run then raises.

        Kernels cannot fail: they go on with any number and leave the rest to this.
        """
        flag = np.zeros(1, np.int32)
        self.faults.append(Fault(flag, error, message))
        return self.constant(Constant(flag, ("fault", id(flag))))

    def _new_piece(self, nbytes: int) -> MemoryPiece:
        piece = MemoryPiece(nbytes)
        self.pieces.append(piece)
        return piece

    def _allocate_blocked(self, spec: TensorSpec, halo_h: int, halo_w: int) -> Tensor:
        t = self.temp_blocked(spec, halo_h, halo_w)
        if halo_h or halo_w:
            piece, item = t.ref.piece, spec.dtype.itemsize
            self._without_halo[piece] = {
                "x": Ref(piece), "h": t.h, "w": t.w, "halo_h": halo_h, "halo_w": halo_w, "pixel": t.width * item,
                "plane_stride": t.plane * item, "value": spec.dtype.zero_point, "work": t.n * t.blocks,
            }  # fmt: skip
        return t

    def fill_halos(self, node: Node, pieces: Iterable[MemoryPiece] | None = None) -> None:
        """Fills the halos of these pieces of memory, by default of all, if that has not been done.

        Each step does so for the memory that it is the first to touch: so the time counts to its node, to which the
        memory belongs, and stands next to it in profiles.
        """
        for piece in list(self._without_halo) if pieces is None else pieces:
            how = self._without_halo.pop(piece, None)
            if how is not None:
                self.emit("fill_halo_blocked", node, **how)

    # ---- steps --------------------------------------------------------------------------------------------------

    def emit(
        self,
        kernel: str,
        node: Node,
        *,
        work: Any,
        scratch: Any = 0,
        flops: Any = 0,
        serial: Any = None,
        **arguments: Any,
    ) -> None:
        """Appends one call of a kernel; arguments go by the names in its module's table.

        Parameters
        ----------
        kernel
            Its name.
        node
            What the step belongs to, for profiles.
        work : int
            Number of independent work items.
        scratch : int
            Bytes that each thread needs.
        flops : int
            Floating-point operations, for profiles and for the choice whether threads pay.
        serial : bool or None
            One thread only; None decides by the amount of work. (Typed Any: callers spread dictionaries here.)

        Raises
        ------
        TypeError
            An argument is missing, or the kernel has none of that name.
        """
        k = self.kernels[kernel]
        values = k.values(arguments)
        if self._without_halo:
            self.fill_halos(node, [v.piece for v in values if isinstance(v, Ref)])
        index = len(self.steps)
        touched = 0
        for ref in values:
            if isinstance(ref, Ref):
                piece = ref.piece
                touched += piece.nbytes
                if piece.first is None:
                    piece.first = index
                piece.last = index
        if serial is None:
            serial = work <= 1 or (touched < SERIAL_BYTES and flops < SERIAL_FLOPS)
        self.steps.append(
            Step(
                k,
                self._origin(node),
                values,
                work,
                scratch,
                serial,
                flops,
            )
        )

    def _origin(self, node: Node) -> Origin:
        """One for all steps of a node."""
        found = self._origins.get(node)
        if found is None:
            found = self._origins[node] = Origin.of(node)
        return found

    def has_activation(self, code: int, *, of_sums: bool = False) -> bool:
        """Whether kernels can apply an activation; results would be wrong with another one.

        ``of_sums``: int8 kernels apply it to sums of products, which they store as they are. All else are real numbers.
        """
        probe = self.kernels.module("probe")
        return code in (probe.SUM_ACTIVATIONS if of_sums else probe.ACTIVATIONS)

    def copy_bytes(self, node: Node, x: Ref, y: Ref, nbytes: int) -> None:
        """Copies dense memory, for a node."""
        chunk = COPY_BYTES
        self.emit("copy_bytes", node, x=x, y=y, nbytes=nbytes, chunk=chunk, work=-(-nbytes // chunk))

    def host(self, node: Node | DynamicNode) -> None:
        """Runs the operator's ``compute`` as a Python step."""
        inputs = [self.plain(v) for v in node.inputs]
        outputs: list[Tensor | None] = [self.new_plain(v) if isinstance(v, Var) else None for v in node.outputs]
        index = len(self.steps)
        for t in (*inputs, *outputs):
            if t is not None:
                piece = t.ref.piece
                piece.first = index if piece.first is None else piece.first
                piece.last = index
        self.steps.append(HostStep(node, inputs, outputs))

    # ---- conversion between layouts -----------------------------------------------------------------------------

    def _to_plain(self, var: Var) -> Tensor:
        existing = self._blocked.get(var)
        if not existing:
            raise InternalError(f"{var} is read before it is computed")
        src = existing[0]
        dense_hw = src.halo_h == src.halo_w == 0
        if dense_hw and src.h * src.w == 1 and src.c % src.width == 0 and (src.n == 1 or src.image == src.c):
            return Tensor(src.spec, src.ref)  # one pixel: the blocks are the channels in order
        out = Tensor(var.spec, Ref(self._new_piece(var.spec.nbytes)))
        self._relayout("relayout_to_plain", src, out, var)
        return out

    def _relayout(self, kernel: str, src: Tensor, out: Tensor, var: Var) -> None:
        b = out if out.blocked else src
        suffix = {1: "8", 2: "16", 4: "32"}[var.dtype.itemsize]
        self.emit(
            f"{kernel}_{suffix}", Node("Relayout", None, (), (), var.name), x=src.ref, y=out.ref, n=b.n, c=b.c, h=b.h,
            w=b.w, stream=var.spec.nbytes >= STREAM_BYTES, row=b.row, plane=b.plane, image=b.image,
            work=b.n * b.blocks * b.h,
        )  # fmt: skip

    def copy_blocked(self, src: Tensor, out: Tensor, var: Var) -> None:
        """Copies between blocked tensors of one shape; ``var`` names the step."""
        item = var.dtype.itemsize
        self.emit(
            "copy_blocked", Node("Relayout", None, (), (), var.name), x=src.ref, y=out.ref, h=src.h,
            row_bytes=src.w * src.width * item, blocks=src.blocks, x_row=src.row * item, x_plane=src.plane * item,
            x_image=src.image * item, y_row=out.row * item, y_plane=out.plane * item, y_image=out.image * item,
            work=src.n * src.blocks,
        )  # fmt: skip
