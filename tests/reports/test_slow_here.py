"""What plans tell of what will be slow here."""

from __future__ import annotations

from typing import Any

import pytest

from megengine_lite._core.cpu.isa import DotKind
from megengine_lite._core.device.plan import Origin, PlanReport, StepTime
from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, FLOAT64, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.reports.slow_here import slow_here
from megengine_lite._core.runtime.devices import get_device
from megengine_lite._core.session_config import SessionConfig
from megengine_lite.struct import LiteDeviceType

INT8, INT64 = DType(DTypeCode.INT8), DType(DTypeCode.INT64)
QUANTIZED = DType(DTypeCode.QUANTIZED_S8, scale=0.5)
CPU = get_device(LiteDeviceType.LITE_CPU)


class Slow:
    """Of a device what is asked for."""

    def slow_products_of_bytes(self, config: SessionConfig) -> str:
        return "this device has no fingers"


def step(kernel: str, reads: DType, writes: DType, *, op: str = "Op", size: int = 4, flops: int = 0) -> StepTime:
    return StepTime(
        Origin(op, "name", (TensorSpec((size,), reads),), (TensorSpec((size,), writes),)), kernel, 0.0, flops
    )


def hints(*steps: StepTime, device: Any = CPU) -> list[tuple[str, str]]:
    found = slow_here([PlanReport(list(steps[:1])), PlanReport(list(steps[1:]))], device, SessionConfig())
    return [(hint["what"], hint["do"]) for hint in found]


def test_a_plan_of_kernels_is_not_slow():
    assert hints(step("conv", FLOAT32, FLOAT32, flops=9), step("compare", FLOAT32, INT32)) == []
    assert hints() == []


def test_steps_in_numpy_are_counted_those_that_move_most_first():
    found = hints(
        step("numpy", FLOAT32, FLOAT32, op="Small"),
        step("conv", FLOAT32, FLOAT32),
        step("numpy", QUANTIZED, INT32, op="Large", size=1000),
        step("numpy", FLOAT32, INT32, op="Small"),
    )
    assert found == [
        ("3 of 4 steps run in numpy: Large quantized_s8, Small float32", "the command profile shows what they cost")
    ]
    many = hints(*(step("numpy", FLOAT32, FLOAT32, op=f"Op{k}", size=9 - k) for k in range(7)))
    assert many[0][0].endswith("Op0 float32, Op1 float32, Op2 float32, Op3 float32 and 3 more")


def test_wide_types_in_numpy_have_other_advice():
    assert hints(step("numpy", INT64, INT64)) == [
        ("1 of 1 steps run in numpy: Op int64", "use types of 32 bits, which have kernels")
    ]
    for types in ((FLOAT64, INT64), (FLOAT32, FLOAT64)):
        ((_, advice),) = hints(step("numpy", *types))
        assert advice == "--narrow-double computes double as float32, which has kernels"


@pytest.mark.parametrize(("reads", "writes", "is_one"), [(FLOAT16, FLOAT32, 1), (FLOAT32, FLOAT16, 1),
                                                         (FLOAT16, FLOAT16, 0), (FLOAT16, INT32, 0)])  # fmt: skip
def test_conversions_of_float16_are_counted(reads, writes, is_one):
    found = hints(step("convert", reads, writes), step("add", FLOAT32, FLOAT32))
    text = "float16 is computed in float32, with 1 conversion in each run"
    assert found == [(text, "a float32 model does without")] * is_one


def test_products_of_bytes_are_counted_where_the_device_is_slow_at_them():
    products = [step(str(dtype), dtype, INT32, flops=9) for dtype in (INT8, QUANTIZED, FLOAT32)]
    steps = [*products, step("move", INT8, INT8)]
    found = ("2 of 3 products are of 8-bit numbers, and this device has no fingers", "compare with the float32 model")
    assert hints(*steps, device=Slow()) == [found]
    assert hints(*steps[2:], device=Slow()) == []


def test_the_cpu_tells_by_its_table_whether_it_has_a_dot_product():
    assert CPU.slow_products_of_bytes(SessionConfig(isa="base")).endswith(
        ("has no dot product of them as avx2_vnni has", "has no dot product of them as dotprod has", "of them")
    )
    assert [kind for kind in DotKind if kind.is_one_instruction] == [
        DotKind.U8S8_QUADS, DotKind.S8S8_QUADS, DotKind.MIXED_QUADS
    ]  # fmt: skip
