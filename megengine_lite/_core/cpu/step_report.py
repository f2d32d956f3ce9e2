"""Plans, steps and the values that steps compute, as text: levels 1, 2 and 4 of the debug ladder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import HostStep, MemoryPiece, Step, Tensor
from megengine_lite._core.ir.describe import describe_spec
from megengine_lite._core.ir.graph import Var


def describe_layout(tensor: Tensor) -> str:
    """Type, shape and layout: ``float32[1, 64, 56, 56] blocked 16 halo 1x1``."""
    text = describe_spec(tensor.spec)
    if tensor.blocked:
        text += f" blocked {tensor.width}"
    if tensor.halo_h or tensor.halo_w:
        text += f" halo {tensor.halo_h}x{tensor.halo_w}"
    return text


def describe_steps(ctx: Lowering) -> list[str]:
    """A line for each step: operator, kernel, and what lies where its pointers lead.

    Where several variables share a piece of memory, one that the step's node reads or makes is named.
    """
    tensors = _by_piece(ctx)
    return [f"step {k}: {_describe_step(step, tensors)}" for k, step in enumerate(ctx.steps)]


def _describe_step(step: Step | HostStep, tensors: dict[MemoryPiece, list[tuple[Var, Tensor]]]) -> str:
    if isinstance(step, HostStep):
        node = step.node
        outputs = (describe_spec(v.spec) for v in node.outputs)
        return (
            f"{node.op} {node.name!r} by numpy, {', '.join(map(describe_layout, step.inputs))} -> {', '.join(outputs)}"
        )
    pointers = []
    for name, ref in step.pointers.items():
        mine = {*step.origin.input_ids, *step.origin.output_ids}
        found = sorted(tensors.get(ref.piece, ()), key=lambda pair: (pair[0].id not in mine, pair[1].ref != ref))
        what = describe_layout(found[0][1]) if found else f"{ref.piece.nbytes} bytes"
        pointers.append(f"{name} {'constant ' if ref.piece.kind == MemoryPiece.CONSTANT else ''}{what}")
    origin = step.origin
    threads = "one thread" if step.serial else f"{step.work} items"
    return f"{origin.op} {origin.name!r} by {step.kernel.name} ({threads}): {', '.join(pointers)}"


def _by_piece(ctx: Lowering) -> dict[MemoryPiece, list[tuple[Var, Tensor]]]:
    found: dict[MemoryPiece, list[tuple[Var, Tensor]]] = {}
    for var, tensor in ctx.tensors():
        found.setdefault(tensor.ref.piece, []).append((var, tensor))
    return found


def results_of_steps(ctx: Lowering) -> list[list[Tensor]]:
    """For each step the tensors that are complete after it: outputs of its node that no later step of it touches.

    Steps that belong to no node (conversions of layouts) have what their pointer ``y`` leads to.
    """
    tensors = _by_piece(ctx)
    results: list[list[Tensor]] = [[] for _ in ctx.steps]
    last: dict[int, tuple[int, Tensor]] = {}  # of the tensors that nodes make, by identity
    for k, step in enumerate(ctx.steps):
        if isinstance(step, HostStep):
            results[k] = [t for t in step.outputs if t is not None]
            continue
        refs = list(step.pointers.values())
        if not step.origin.output_ids:
            y = step.pointers.get("y")
            results[k] = [] if y is None else [t for _, t in tensors.get(y.piece, ()) if t.ref == y][:1]
            continue
        for piece in dict.fromkeys(r.piece for r in refs):
            for var, tensor in tensors.get(piece, ()):
                if var.id in step.origin.output_ids:
                    last[id(tensor)] = k, tensor
    for k, tensor in last.values():
        results[k].append(tensor)
    return results


def blocked_array(tensor: Tensor, memory: np.ndarray) -> np.ndarray:
    """The numbers of a blocked tensor as [N, C, H, W]; ``memory`` begins at its first number."""
    item = tensor.spec.dtype.itemsize
    strides = [s * item for s in (tensor.image, tensor.plane, tensor.row, tensor.width, 1)]
    shape = (tensor.n, tensor.blocks, tensor.h, tensor.w, tensor.width)
    blocks = np.ndarray(shape, tensor.spec.dtype.storage, memory, 0, strides)
    return blocks.transpose(0, 1, 4, 2, 3).reshape(tensor.n, -1, tensor.h, tensor.w)[:, : tensor.c]


def blocked_span(tensor: Tensor) -> int:
    """Bytes from the first number of a blocked tensor to behind its last one."""
    steps = (tensor.n - 1) * tensor.image + (tensor.blocks - 1) * tensor.plane + (tensor.h - 1) * tensor.row
    return (steps + tensor.w * tensor.width) * tensor.spec.dtype.itemsize


def describe_values(array: np.ndarray) -> str:
    """Smallest and largest number, mean and number of NaN; NaN does not count in the others.

    >>> describe_values(np.array([1.0, np.nan, 3.0], np.float32))
    'min 1 max 3 mean 2 nan 1'
    """
    numbers = array[array == array].astype(np.float64)
    nan = array.size - numbers.size
    if not numbers.size:
        return f"no number, nan {nan}"
    return f"min {numbers.min():g} max {numbers.max():g} mean {numbers.mean():g} nan {nan}"


def describe_plan(
    ctx: Lowering, nodes: int, inputs: Iterable[tuple[str, Sequence[int]]], arena_bytes: int, seconds: float
) -> str:
    """One line about a plan; ``nodes`` were there before the passes."""
    shapes = ", ".join(f"{name!r} {list(shape)}" for name, shape in inputs)
    numpy_steps = sum(isinstance(s, HostStep) for s in ctx.steps)
    weights = sum(p.nbytes for p in ctx.constants() if p.first is not None)
    return (
        f"plan for {shapes or 'no inputs'} on {ctx.kernels.name}: {nodes} nodes, {len(ctx.graph.nodes)} after passes, "
        f"{len(ctx.steps)} steps ({numpy_steps} by numpy), arena {arena_bytes / 1024:.1f} KiB, "
        f"weights {weights / 1024:.1f} KiB, {seconds * 1e3:.1f} ms"
    )
