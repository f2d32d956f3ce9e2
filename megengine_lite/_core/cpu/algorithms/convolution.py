"""Algorithms of convolutions: the problem that they solve, when each applies, what it costs."""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

from megengine_lite._core.cpu.algorithms.algorithm import Algorithm, AlgorithmTable, Condition
from megengine_lite._core.cpu.algorithms.phases import MAX_PHASES, PhasePlan, has_phases
from megengine_lite._core.cpu.algorithms.taps import LEAST_CHANNELS, MAX_TAPS, TapPlan, is_mostly_padding
from megengine_lite._core.cpu.isa import CostFactors
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.ir.fused_quantized import MAX_IMAGE_CHANNELS
from megengine_lite._core.operators.window import Window
from megengine_lite._records import field, record, replace
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS


@record(frozen=True, slots=True)
class ConvProblem:
    """What algorithms need to know about a convolution and what has been fused into it.

    ``ic`` and ``oc`` are channels per group; ``width`` is the number of channels of a block of the session's
    ``kernels``. ``plain_input``: the input exists in plain NCHW and not blocked. ``converts_input``: its type is not
    the one that is multiplied. ``precision``: how weights of float32 convolutions are packed.
    """

    n: int
    groups: int
    ic: int
    oc: int
    ih: int
    iw: int
    oh: int
    ow: int
    kh: int
    kw: int
    stride_h: int
    stride_w: int
    dilate_h: int
    dilate_w: int
    pad_h: int
    pad_w: int
    width: int = field(init=False)  # also a part of the text by which measurements are found
    plain_input: bool
    kernels: KernelSet = field(repr=False)
    converts_input: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", self.kernels.width)

    @property
    def products(self) -> int:
        """Multiply-adds by definition."""
        return self.n * self.groups * self.oc * self.ic * self.kh * self.kw * self.oh * self.ow

    @property
    def in_pairs(self) -> bool:
        """Whether ``conv_direct`` can multiply pairs of bfloat16: the inputs are rounded, too."""
        return self.precision == "bfloat16" and self.ic % 2 == 0 and self.kernels.multiplies_bfloat16

    def at_batch(self, samples: int) -> ConvProblem:
        """The same with another batch."""
        return replace(self, n=samples)

    def transposed(self) -> ConvProblem:
        """The same with rows and columns exchanged."""
        return replace(
            self,
            ih=self.iw,
            iw=self.ih,
            oh=self.ow,
            ow=self.oh,
            kh=self.kw,
            kw=self.kh,
            stride_h=self.stride_w,
            stride_w=self.stride_h,
            dilate_h=self.dilate_w,
            dilate_w=self.dilate_h,
            pad_h=self.pad_w,
            pad_w=self.pad_h,
        )

    @property
    def window(self) -> Window:
        """How the filter moves."""
        return Window(
            size=(self.kh, self.kw),
            stride=(self.stride_h, self.stride_w),
            pad=(self.pad_h, self.pad_w),
            dilate=(self.dilate_h, self.dilate_w),
        )

    def blocks(self, channels: int) -> int:
        return -(-channels // self.width)

    @property
    def costs(self) -> CostFactors:
        """What moving numbers costs with the session's instruction set."""
        costs = self.kernels.isa.costs
        return costs if self.precision == "float32" else costs._replace(weight=costs.weight / 2)

    def module(self, name: str) -> ModuleType:
        """A kernel module of the session's instruction set, for the scratch and the block sizes that it exports."""
        return self.kernels.module(name)


def merged_groups(p: ConvProblem) -> int:
    """How many neighbouring groups are taken as one dense group, so that groups end where channel blocks end: 1 if they
    do anyway, all if others do not divide them."""
    runs = group_runs(p)
    return p.groups if len(runs) > 1 else runs[0].merged


@record(frozen=True, slots=True)
class GroupRun:
    """Neighbouring groups of a convolution, ``groups * merged`` from number ``first`` on, which begin where a channel
    block begins. ``conv_direct`` takes each ``merged`` neighbours as one dense group."""

    first: int
    groups: int
    merged: int

    @property
    def members(self) -> slice:
        """Which groups these are."""
        return slice(self.first, self.first + self.groups * self.merged)


def group_runs(p: ConvProblem) -> list[GroupRun]:
    """All groups of a convolution. What is left of a number that merged groups do not divide is a run of its own."""
    for m in range(1, p.groups + 1):
        if p.ic * m % p.width == 0 and p.oc * m % p.width == 0:
            whole, rest = divmod(p.groups, m)
            return [GroupRun(0, whole, m), *([GroupRun(whole * m, 1, rest)] if rest else [])]
    return [GroupRun(0, 1, p.groups)]


JOIN = 1.1
"""How many products more are taken for fewer calls of a kernel, in tiles of two blocks."""
IN_PARTS = 2
"""What a product costs in parts of groups, which are short sums for single blocks: so many of other convolutions."""
PAIRS = 0.5
"""What a product of bfloat16 costs, in products of float32."""
READ_AGAIN = 0.4
"""What weights cost that are read once more, from the cache that processors share: so much of the first time."""
SPREAD = 1.3
"""What a product costs whose input is spread over lanes, in products of other convolutions."""


@record(frozen=True, slots=True)
class GroupPart:
    """Some channel blocks of the output of each merged group, and the input channels that they need, from the beginning
    of a block on. Both are counted in the merged group. Other inputs would be multiplied by zeros."""

    outputs: range
    inputs: range

    def products(self, width: int) -> int:
        """Multiply-adds of a pixel for each place of the filter, in whole blocks of outputs."""
        return -(-len(self.outputs) // width) * width * len(self.inputs)

    def joined(self, following: GroupPart) -> GroupPart:
        """Both as one; inputs of what follows begin and end no earlier."""
        return GroupPart(
            range(self.outputs.start, following.outputs.stop), range(self.inputs.start, following.inputs.stop)
        )


def group_parts(p: ConvProblem, run: GroupRun) -> list[GroupPart]:
    """How the merged groups of a run are divided, so that ``conv_direct`` multiplies by few zeros."""
    width, channels = p.width, p.oc * run.merged
    if run.merged == 1:  # each output needs all inputs
        return [GroupPart(range(channels), range(p.ic))]
    parts: list[GroupPart] = []
    for first in range(0, channels, width):
        outputs = range(first, min(first + width, channels))
        start = outputs[0] // p.oc * p.ic
        part = GroupPart(outputs, range(start // width * width, (outputs[-1] // p.oc + 1) * p.ic))
        if parts:
            both = parts[-1].joined(part)
            if both.products(width) <= JOIN * (parts[-1].products(width) + part.products(width)):
                parts[-1] = both
                continue
        parts.append(part)
    return parts


_DEPTHWISE: Condition[ConvProblem] = Condition(
    "several groups of one channel each", lambda p: p.ic == p.oc == 1 and p.groups > 1
)
_SMALL_GROUPS: tuple[Condition[ConvProblem], ...] = (
    Condition(
        "groups of 2, 4 or 8 channels, fewer than a channel block", lambda p: p.ic in (2, 4, 8) and p.ic < p.width
    ),
    Condition("as many output channels in a group as input channels", lambda p: p.ic == p.oc),
    Condition("weights in float32", lambda p: p.precision == "float32"),
)
_HALVES: tuple[Condition[ConvProblem], ...] = (
    Condition("groups of one and a half channel blocks", lambda p: 2 * p.ic == 3 * p.width and p.groups > 1),
    *_SMALL_GROUPS[1:],
)
_ONE_GROUP: Condition[ConvProblem] = Condition("one group", lambda p: p.groups == 1)
_FEW_CHANNELS: Condition[ConvProblem] = Condition(
    f"at most {MAX_IMAGE_CHANNELS} input channels", lambda p: p.ic <= MAX_IMAGE_CHANNELS
)
_PLAIN: Condition[ConvProblem] = Condition("an input in plain NCHW", lambda p: p.plain_input)
# Images of few channels are packed in any case. An input to be converted may be made plain first.
_CAN_BE_PLAIN: Condition[ConvProblem] = Condition(
    "an input in plain NCHW, or one to be converted", lambda p: p.plain_input or p.converts_input
)
_INT8: Condition[ConvProblem] = Condition("an input of the type that is multiplied", lambda p: not p.converts_input)
_TAPS: tuple[Condition[ConvProblem], ...] = (
    _ONE_GROUP,
    Condition(f"at least {LEAST_CHANNELS} input channels", lambda p: p.ic >= LEAST_CHANNELS),
    Condition(
        f"a filter of at most {MAX_TAPS} places that meet padding more than the image",
        lambda p: is_mostly_padding(p.window, (p.ih, p.iw)),
    ),
)
_3X3: Condition[ConvProblem] = Condition("filters of 3 x 3", lambda p: p.kh == p.kw == 3)
_DILATED: tuple[Condition[ConvProblem], ...] = (
    _3X3,
    Condition(
        f"a dilation of at most {MAX_PHASES} in all, a stride of 1, a padding of multiples of the dilation", has_phases
    ),
    _ONE_GROUP,
)
_WINOGRAD: tuple[Condition[ConvProblem], ...] = (
    _3X3,
    Condition("a stride of 1", lambda p: p.stride_h == p.stride_w == 1),
    Condition("filters that are not dilated", lambda p: p.dilate_h == p.dilate_w == 1),
    _ONE_GROUP,
)
_PAIRS_16: Condition[ConvProblem] = Condition(
    "kernels that multiply 16-bit numbers", lambda p: p.kernels.isa.dot.widens
)
_SMALL_SUMS: Condition[ConvProblem] = Condition(
    "few enough input channels that four times a sum fits 32 bits",
    lambda p: 9 * p.ic * 128 * 255 < p.module("conv_winograd_int8").LARGEST_SUM,
)


def first_scratch(p: ConvProblem) -> int:
    """Bytes that each thread needs."""
    return int(p.module("conv_first").scratch_bytes(p.ic, p.kh, p.kw, p.iw, p.pad_w))


def _products_of_parts(p: ConvProblem, run: GroupRun) -> float:
    parts = group_parts(p, run)
    return (IN_PARTS if len(parts) > 1 else 1) * sum(part.products(p.width) for part in parts)


def _input_cost(p: ConvProblem) -> float:
    """Of writing the input anew, in another layout or type."""
    return p.costs.relayout * p.n * p.groups * p.ic * p.ih * p.iw


def _output_cost(p: ConvProblem) -> float:
    """The same for the output."""
    return p.costs.relayout * p.n * p.groups * p.oc * p.oh * p.ow


def _blocking_cost(p: ConvProblem) -> float:
    """Of an input that comes in plain NCHW."""
    return _input_cost(p) if p.plain_input else 0


def _group_cost(p: ConvProblem) -> float:
    products = p.blocks(p.groups * p.oc) * p.width * p.ic * p.kh * p.kw * p.n * p.oh * p.ow
    return SPREAD * products + _blocking_cost(p)


def _halves_cost(p: ConvProblem) -> float:
    pairs, *rest = group_runs(p)
    products = pairs.groups * 2 * p.oc * p.ic + sum(run.groups * _products_of_parts(p, run) for run in rest)
    return p.kh * p.kw * products * p.n * p.oh * p.ow + _blocking_cost(p)


def _direct_cost(p: ConvProblem) -> float:
    numbers = p.kh * p.kw * sum(run.groups * _products_of_parts(p, run) for run in group_runs(p))
    rounding = _input_cost(p) if p.in_pairs else 0
    return numbers * ((PAIRS if p.in_pairs else 1) * p.n * p.oh * p.ow + p.costs.weight) + rounding + _blocking_cost(p)


def _first_cost(p: ConvProblem) -> float:
    return p.n * p.blocks(p.oc) * p.width * p.ic * p.kh * p.kw * p.oh * p.ow


def _plain_scratch(p: ConvProblem) -> int:
    kernel = p.module("conv_plain")
    part = kernel.row_part(p.iw, p.ow, p.kw, p.stride_w, p.dilate_w, p.pad_w)
    return int(kernel.scratch_bytes(p.ic * p.kh, p.kw, p.stride_w, part))


def _plain_cost(p: ConvProblem) -> float:
    block = int(p.module("conv_plain").SPAN) * p.width
    products = p.products // p.ow * -(-p.ow // block) * block
    copied = p.n * p.groups * p.ic * p.oh * p.kh * p.iw * (12 if p.stride_w == 1 else 40)
    relayout = 0 if p.plain_input else _input_cost(p)
    return 2.5 * products + copied + relayout + _output_cost(p)


def _far_weights(p: ConvProblem, m: int) -> int:
    """Transformed weights that come from memory each time, because they are too many for a cache; 0 if they are not."""
    numbers = (m + 2) ** 2 * p.ic * p.blocks(p.oc) * p.width
    return numbers if 4 * numbers > p.kernels.isa.near_bytes else 0


@record(frozen=True, slots=True)
class WinogradPlan:
    """How F(m x m, 3 x 3) walks over a problem.

    Each image has ``tile_blocks`` runs of at most ``tiles`` output tiles. ``parts`` work items share the output
    channels of a run.
    """

    m: int
    tile_blocks: int
    tiles: int
    parts: int

    # The transformed input of a run should stay in a core's second-level cache.
    INPUT_BYTES: ClassVar[int] = 640 * 1024
    MAX_TILES: ClassVar[int] = 28
    # Transforms of larger tensors wait for memory.
    FAST_BYTES: ClassVar[int] = 2 * 1024 * 1024

    @property
    def area(self) -> int:
        return (self.m + 2) ** 2

    @classmethod
    def make(cls, p: ConvProblem, m: int, threads: int = 1, size: int = 4) -> WinogradPlan:
        """For transformed inputs and weights of ``size`` bytes each.

        Runs whose inputs stay in the cache read the weights more often than fewer, longer ones: what reads less wins.
        """
        count = -(-p.oh // m) * -(-p.ow // m)
        tile = size * (m + 2) ** 2 * p.blocks(p.ic) * p.width
        output_tiles = -(-p.blocks(p.oc) // TILE_BLOCKS)
        weights = size * _far_weights(p, m)

        def read(blocks: int) -> int:
            inputs = tile * -(-count // blocks)
            return blocks * (weights + inputs * (output_tiles if inputs > cls.INPUT_BYTES else 1))

        in_cache = -(-count // min(max(cls.INPUT_BYTES // tile, 8), cls.MAX_TILES))
        blocks = min(in_cache, -(-count // cls.MAX_TILES), key=read)
        parts = 1
        if p.n * blocks % threads:
            even = -(-blocks // threads) * threads
            if blocks > 1 and count >= 8 * even:
                blocks = even
            else:
                parts = min(threads, -(-p.blocks(p.oc) // TILE_BLOCKS))
        return cls(m, blocks, -(-count // blocks), parts)

    def scratch(self, p: ConvProblem) -> int:
        """Bytes that each thread needs."""
        return int(p.module("conv_winograd").scratch_bytes(self.m, p.ic, self.tiles))

    def scratch_int8(self, p: ConvProblem) -> int:
        """The same for int8 numbers."""
        return int(p.module("conv_winograd_int8").scratch_bytes(p.ic, self.tiles))

    def cost(self, p: ConvProblem) -> float:
        lanes, depth = p.blocks(p.oc) * p.width, p.blocks(p.ic) * p.width
        in_cache = 4 * p.n * (depth * p.ih * p.iw + lanes * p.oh * p.ow) <= self.FAST_BYTES
        return self._cost(p, 13 if in_cache else 20)

    def cost_int8(self, p: ConvProblem) -> float:
        """The same for int8 numbers."""
        return self._cost(p, 4)

    def _cost(self, p: ConvProblem, transform: float) -> float:
        """With what it costs to transform an element of the data."""
        lanes, depth = p.blocks(p.oc) * p.width, p.blocks(p.ic) * p.width
        tiles = p.n * -(-p.oh // self.m) * -(-p.ow // self.m)
        reads = 1 + READ_AGAIN * (p.n * self.tile_blocks - 1) if _far_weights(p, self.m) else 1
        products = lanes * p.ic * self.area * (tiles + p.costs.weight * reads)
        return products + transform * tiles * self.area * (lanes + depth)


def winograd_int8_plan(p: ConvProblem, threads: int = 1) -> WinogradPlan:
    """How ``conv_winograd2_int8`` walks over a problem."""
    return WinogradPlan.make(p, 2, threads, size=2)


def _winograd(m: int, error: float) -> Algorithm[ConvProblem]:
    return Algorithm(
        f"conv_winograd{m}_f32",
        _WINOGRAD,
        scratch=lambda p: WinogradPlan.make(p, m).scratch(p),
        cost=lambda p: WinogradPlan.make(p, m).cost(p),
        error=error,
    )


def _dilated_cost(p: ConvProblem, m: int) -> float:
    whole = PhasePlan.make(p).problem
    return WinogradPlan.make(whole, m).cost(whole) + _input_cost(p) + _output_cost(p)


def _dilated_winograd(m: int, error: float) -> Algorithm[ConvProblem]:
    def scratch(p: ConvProblem) -> int:
        whole = PhasePlan.make(p).problem
        return WinogradPlan.make(whole, m).scratch(whole)

    return Algorithm(
        f"conv_dilated_winograd{m}_f32",
        _DILATED,
        scratch,
        cost=lambda p: _dilated_cost(p, m),
        error=error,
        kernel=f"conv_winograd{m}_f32",
    )


CONV_F32 = AlgorithmTable(
    "conv_f32",
    (
        Algorithm("conv_depthwise_f32", (_DEPTHWISE,), lambda p: 0, cost=lambda p: 4.0 * p.products, error=1e-6),
        Algorithm("conv_group_f32", _SMALL_GROUPS, lambda p: 0, _group_cost, error=1e-5),
        Algorithm("conv_halves_f32", _HALVES, lambda p: 0, _halves_cost, error=1e-5),
        Algorithm("conv_first_f32", (_PLAIN, _ONE_GROUP, _FEW_CHANNELS), first_scratch, _first_cost, error=1e-5),
        Algorithm("conv_direct_f32", (), lambda p: 0, _direct_cost, error=1e-5),
        Algorithm(
            "conv_taps_f32", _TAPS, lambda p: 0, lambda p: TapPlan.make(p).cost(p), error=1e-5, kernel="conv_direct_f32"
        ),
        Algorithm("conv_plain_f32", (), _plain_scratch, _plain_cost, error=1e-5),
        _winograd(4, error=2e-5),
        _winograd(2, error=1e-5),
        _dilated_winograd(4, error=2e-5),
        _dilated_winograd(2, error=1e-5),
    ),
)


# int8 multiply-adds are counted like others: only costs of one table are compared.
CONV_INT8 = AlgorithmTable(
    "conv_int8",
    (
        Algorithm("conv_depthwise_int8", (_DEPTHWISE, _INT8), lambda p: 0, cost=lambda p: 4.0 * p.products, error=0),
        Algorithm("conv_image_int8", (_CAN_BE_PLAIN, _ONE_GROUP, _FEW_CHANNELS), lambda p: 0, _first_cost, error=0),
        Algorithm("conv_direct_int8", (_INT8,), lambda p: 0, _direct_cost, error=0),
        Algorithm(
            "conv_winograd2_int8",
            (*_WINOGRAD, _INT8, _PAIRS_16, _SMALL_SUMS),
            lambda p: winograd_int8_plan(p).scratch_int8(p),
            lambda p: winograd_int8_plan(p).cost_int8(p),
            error=0,
        ),
    ),
)
