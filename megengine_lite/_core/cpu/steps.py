"""What lowering makes: steps, and the tensors in memory that they read and write.

A :class:`Step` is a call of a kernel, a :class:`HostStep` runs an operator's definition in numpy. Both name memory by
pieces, which have no addresses before the plan is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from megengine_lite._core.cpu.kernel_set import Kernel
from megengine_lite._core.cpu.native_plan import ARENA_BASE
from megengine_lite._core.device.plan import Origin
from megengine_lite._core.ir.graph import DynamicNode, Node, TensorSpec
from megengine_lite._records import record
from megengine_lite.kernels.common.shared_constants import SLACK

if TYPE_CHECKING:
    from megengine_lite._core.cpu.program import Record
    from megengine_lite._core.ir.fused import Activation
    from megengine_lite._core.system.shared_arrays import SharedArrays


class MemoryPiece:
    """A piece of memory: part of the arena, a constant, or memory of an input, an output or a stage boundary."""

    __slots__ = ("address", "base", "first", "kind", "last", "nbytes", "offset", "owner")

    ARENA, CONSTANT, EXTERNAL = "arena", "constant", "external"

    def __init__(self, nbytes: int, kind: str = ARENA, owner: Any = None, address: int = 0):
        self.nbytes = nbytes
        self.kind = kind
        self.owner = owner
        self.address = address  # of constants
        self.first: int | None = None  # first and last step that touch it
        self.last = -1
        self.offset = 0  # in the arena
        self.base = -1  # index of an external base pointer

    def share(self, arrays: SharedArrays) -> None:
        """Moves a constant into memory that processes share; the address is another one afterwards."""
        constant, array = self.owner
        if array is constant.shared:
            return
        shared = arrays.share(array, SLACK)
        if shared is not array:
            constant.keep_shared(shared)
            self.owner, self.address = (constant, shared), shared.ctypes.data


@record(frozen=True, slots=True)
class Ref:
    """An address: ``offset`` bytes into a piece of memory."""

    piece: MemoryPiece
    offset: int = 0

    def __add__(self, nbytes: int) -> Ref:
        return Ref(self.piece, self.offset + nbytes)

    def address(self) -> tuple[int, int]:
        """Base and offset as a program wants them, once memory is assigned: -1 for absolute addresses."""
        piece = self.piece
        if piece.kind == MemoryPiece.CONSTANT:
            return -1, piece.address + self.offset
        if piece.kind == MemoryPiece.EXTERNAL:
            return piece.base, self.offset
        return ARENA_BASE, piece.offset + self.offset


@record(slots=True)
class Tensor:
    """A variable placed in memory.

    Plain tensors are dense and row-major from ``ref`` on. Blocked ones (``width`` > 0) have ``ref`` at element
    (0, 0, 0, 0) and the strides ``row``, ``plane``, ``image`` in elements; see docs/architecture.md.
    """

    spec: TensorSpec
    ref: Ref
    width: int = 0
    halo_h: int = 0
    halo_w: int = 0
    image: int = 0

    @property
    def blocked(self) -> bool:
        return self.width > 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def n(self) -> int:
        return self.shape[0]

    @property
    def c(self) -> int:
        return self.shape[1]

    @property
    def h(self) -> int:
        return self.shape[2]

    @property
    def w(self) -> int:
        return self.shape[3]

    @property
    def blocks(self) -> int:
        return -(-self.c // self.width)

    @property
    def row(self) -> int:
        return (self.w + 2 * self.halo_w) * self.width

    @property
    def plane(self) -> int:
        return (self.h + 2 * self.halo_h) * self.row

    def slice_blocks(self, spec: TensorSpec, first_block: int) -> Tensor:
        """The channels from ``first_block * width`` on, as a blocked tensor of the given spec in the same memory."""
        step = first_block * self.plane * spec.dtype.itemsize
        return Tensor(spec, self.ref + step, self.width, self.halo_h, self.halo_w, self.image)


def blocked_strides(prefix: str, t: Tensor | None, joined: int = 1) -> dict[str, int]:
    """A blocked tensor's strides in elements, as arguments of a kernel; ``joined`` rows count as one. 0 without a
    tensor."""
    return {
        f"{prefix}_row": t.row * joined if t else 0,
        f"{prefix}_plane": t.plane if t else 0,
        f"{prefix}_image": t.image if t else 0,
    }


def epilogue_arguments(activation: Activation) -> dict[str, float]:
    """What a kernel applies to its sums, as ``Epilogue`` (kernels/common/arguments.pxd)."""
    return {"activation": int(activation.code), "act_a": activation.a, "act_b": activation.b}


@record(slots=True)
class Step:
    """One record of a program, before addresses are known."""

    kernel: Kernel
    origin: Origin
    arguments: list[Ref | int | float | None]  # in the order of the kernel's struct
    work: int
    scratch: int
    serial: bool
    flops: int = 0

    @property
    def pointers(self) -> dict[str, Ref]:
        """The arguments that are addresses, by name; without null pointers."""
        return {k: a for k, a in zip(self.kernel.arguments, self.arguments, strict=True) if isinstance(a, Ref)}

    def record(self) -> Record:
        """The step as a program takes it; memory must have been assigned."""
        values = [a.address() if isinstance(a, Ref) else a for a in self.arguments]
        return self.kernel.address, values, self.work, self.serial


@record(slots=True)
class HostStep:
    """A Python step: ``compute`` of the node on views of these tensors; dynamic outputs have no tensor."""

    node: Node | DynamicNode
    inputs: list[Tensor]
    outputs: list[Tensor | None]
