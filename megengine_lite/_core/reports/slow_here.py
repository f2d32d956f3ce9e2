"""What will be slow on this machine, and what to do about it: told from plans, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from megengine_lite._core.device.plan import Origin, PlanReport, StepTime
from megengine_lite._core.ir.dtype import FLOAT64, DTypeCode
from megengine_lite._core.ir.graph import Spec, TensorSpec
from megengine_lite.errors import listed

if TYPE_CHECKING:
    from megengine_lite._core.device.interface import Device
    from megengine_lite._core.session_config import SessionConfig

MOST_KINDS = 4
Hint = dict[str, str]
"""``what`` is slow, and what to ``do``."""


def slow_here(plans: Iterable[PlanReport], device: Device, config: SessionConfig) -> list[Hint]:
    """What the steps of plans tell. Empty if every step has a kernel that suits the device."""
    steps = [step for plan in plans for step in plan.steps]
    return [*_in_numpy(steps), *_converted(steps), *_of_bytes(steps, device.slow_products_of_bytes(config))]


def _specs(origin: Origin) -> Iterator[Spec]:
    yield from origin.inputs
    yield from origin.outputs


def _in_numpy(steps: Sequence[StepTime]) -> Iterator[Hint]:
    found = [step.origin for step in steps if step.kernel == "numpy"]
    if not found:
        return
    kinds: Counter[str] = Counter()
    for origin in found:  # those that read and write most come first
        kinds[_kind(origin)] += 1 + sum(s.nbytes for s in _specs(origin) if isinstance(s, TensorSpec))
    types = {spec.dtype for origin in found for spec in _specs(origin)}
    if FLOAT64 in types:
        advice = "--narrow-double computes double as float32, which has kernels"
    elif any(dtype.is_wide for dtype in types):
        advice = "use types of 32 bits, which have kernels"
    else:
        advice = "the command profile shows what they cost"
    yield {
        "what": f"{len(found)} of {len(steps)} steps run in numpy: "
        f"{listed([kind for kind, _ in kinds.most_common()], ', ', MOST_KINDS)}",
        "do": advice,
    }


def _kind(origin: Origin) -> str:
    """The operator with the type of what it reads first."""
    specs = (*origin.inputs, *origin.outputs)[:1]
    return " ".join([origin.op, *(str(spec.dtype).partition("(")[0] for spec in specs)])


def _converted(steps: Sequence[StepTime]) -> Iterator[Hint]:
    """Nodes that read float16 and write other real numbers, or the other way round."""
    count = 0
    for origin in {id(step.origin): step.origin for step in steps}.values():  # of one node, if it has several steps
        sides = [{spec.dtype.code for spec in side} for side in (origin.inputs, origin.outputs)]
        halves = [DTypeCode.FLOAT16 in side for side in sides]
        count += halves[0] != halves[1] and DTypeCode.FLOAT32 in sides[halves[0]]
    if count:
        yield {
            "what": f"float16 is computed in float32, with {count} conversion{'s' if count > 1 else ''} in each run",
            "do": "a float32 model does without",
        }


def _of_bytes(steps: Sequence[StepTime], reason: str) -> Iterator[Hint]:
    products = [step for step in steps if step.flops]
    count = sum(any(spec.dtype.itemsize == 1 for spec in step.origin.inputs) for step in products)
    if count and reason:
        yield {
            "what": f"{count} of {len(products)} products are of 8-bit numbers, and {reason}",
            "do": "compare with the float32 model",
        }
