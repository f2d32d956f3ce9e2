"""The most operations and bytes per second that a device reaches, measured as a model is run.

The roof of a roofline plot: no step does more operations per second than a large matrix product, and none that reads
and writes more than the caches hold moves more bytes per second than a sum of large arrays.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from megengine_lite._core.device.interface import Device
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec, Var
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system.memory_limit import memory_limit
from megengine_lite._records import replace

# Edges of the products: the fastest counts.
PRODUCTS = (384, 768)
# Numbers in each array of a sum: more than caches hold, and so few that they stay in the cache of a core.
LARGE_SUM, SMALL_SUM = 1 << 24, 1 << 15
# The large arrays may take this part of the memory.
MEMORY_PART = 16
RUNS = 6


def _seconds(op: str, table: Any, shape: tuple[int, ...], config: SessionConfig, device: Device, id: int) -> float:
    """The best time of one operator on two inputs of this shape."""
    inputs = [Var(k, f"x{k}", TensorSpec(shape, FLOAT32)) for k in range(2)]
    output = AnyVar(2, "y")
    graph = ModelGraph([AnyNode(op, table, inputs, [output], op)], inputs, [output], ["y"])
    model: Any = SimpleNamespace(graph=graph, input_names=["x0", "x1"], output_names=["y"], default_inputs={})
    session = Session(model, config, device=device, device_id=id)
    for name in model.input_names:
        session.set_array(name, np.ones(shape, np.float32))
    session.run()
    return min(sum(step.seconds for step in session.run_profiled()) for _ in range(RUNS))


def measure_roof(config: SessionConfig, device: Device, device_id: int) -> dict[str, Any]:
    """Peak in GFLOP/s of float32, and bandwidths in GB/s, with the threads and kernels of a configuration."""
    plain = replace(config, explain=False, measured=None, plan_cache_size=1)
    product, addition = params.MatrixMul(), params.Elemwise(mode=ElemwiseMode.ADD)
    peak = max(2 * n**3 / _seconds("MatrixMul", product, (n, n), plain, device, device_id) for n in PRODUCTS)

    def bandwidth(numbers: int) -> float:
        moved = 3 * 4 * numbers
        return moved / max(_seconds("Elemwise", addition, (numbers,), plain, device, device_id), 1e-9)

    large = min(LARGE_SUM, memory_limit() // (MEMORY_PART * 3 * 4))
    return {
        "gflops": peak * 1e-9,
        "bandwidths": [
            {"name": "memory", "gb_per_s": bandwidth(large) * 1e-9},
            {"name": "cache", "gb_per_s": bandwidth(SMALL_SUM) * 1e-9},
        ],
    }
