"""Profiles as files: JSON in the original's form, which its analysis tools read, and Chrome traces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from megengine_lite._core.graph import TensorSpec
from megengine_lite._core.io_dump import dtype_name
from megengine_lite._core.planner import StepTime

_DEVICE = 'CompNode("cpu0:0" from "cpu0:0")'


def _shape(spec: TensorSpec) -> list[int]:
    return list(spec.shape or ())


def _nbytes(spec: TensorSpec) -> int:
    return spec.nbytes if spec.shape is not None else 0


def _dense_strides(shape: Sequence[int]) -> list[int]:
    strides, step = [], 1
    for d in reversed(shape):
        strides.append(step)
        step *= d
    return strides[::-1]


def var_entry(
    number: int, spec: TensorSpec, name: str = "", offset: int | None = None, chunk: str = ""
) -> dict[str, Any]:
    """A variable in the form of ``graph_exec.var``. Addresses are 0: memory is assigned per plan."""
    shape = _shape(spec)
    plan = {
        "mem_chunk_id": f"chk{number}",
        "offset_byte": 0,
        "layout": {"shape": shape, "stride": _dense_strides(shape), "dtype": dtype_name(spec.dtype)},
    }
    tag = {
        "node_type": "static_infer_tag",
        "infer_type": "RT_STATIC" if spec.shape is not None else "NO_DESC",
        "inferred_result": shape if spec.shape is not None else None,
        "deps": [],
    }
    unknown: dict[str, Any] = {
        "node_type": "static_infer_tag",
        "infer_type": "NO_DESC",
        "inferred_result": None,
        "deps": [],
    }
    return {
        "node_type": "var",
        "id": str(number),
        "name": f"var{number}",
        "comp_node": _DEVICE,
        "dev_ptr": 0,
        "prev_dev_ptr": 0,
        "flag": [],
        "mem_plan": plan if spec.shape is not None else None,
        "mem_readonly_fwd_src": None,
        "force_update_src": None,
        "static_infer_tags": {"SHAPE": tag, "VALUE": unknown},
    }


def operator_entry(number: int, op: str, name: str, inputs: Sequence[int], outputs: Sequence[int]) -> dict[str, Any]:
    """An operator in the form of ``graph_exec.operator``."""
    return {
        "node_type": "operator",
        "id": str(number),
        "name": name or f"{op}[{number}]",
        "type": op,
        "input": [str(v) for v in inputs],
        "output": [str(v) for v in outputs],
        "extra": {},
        "waiting_spec": {},
    }


def chunk_entry(number: int, nbytes: int) -> dict[str, Any]:
    """Memory of a variable in the form of ``graph_exec.mem_chunk``."""
    return {"node_type": "mem_chunk", "id": f"chk{number}", "size": nbytes, "owner_var": str(number), "dev_ptr": 0}


def graph_exec(steps: Sequence[StepTime]) -> dict[str, Any]:
    """Operators, variables and memory of a profiled run. Operators are numbered by their place in it."""
    operators: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    chunks: dict[str, Any] = {}
    for number, step in enumerate(steps):
        origin = step.origin
        entry = operator_entry(number, origin.op, origin.name, origin.input_ids, origin.output_ids)
        entry["extra"] = {"algorithm": step.kernel}
        operators[str(number)] = entry
        for ids, specs in ((origin.input_ids, origin.inputs), (origin.output_ids, origin.outputs)):
            for var, spec in zip(ids, specs, strict=True):
                if str(var) not in variables:
                    variables[str(var)] = var_entry(var, spec)
                    chunks[f"chk{var}"] = chunk_entry(var, _nbytes(spec))
    return {"operator": operators, "var": variables, "mem_chunk": chunks, "comp_seq": list(operators)}


def original_form(steps: Sequence[StepTime]) -> dict[str, Any]:
    """The JSON object of the original's profiler. Times are in seconds from the start of the run."""
    device: dict[str, Any] = {}
    footprint: dict[str, Any] = {}
    clock = 0.0
    for number, step in enumerate(steps):
        end = clock + step.seconds
        device[str(number)] = {_DEVICE: {"start": clock, "kern": clock, "end": end}}
        clock = end
        origin = step.origin
        footprint[str(number)] = {
            "computation": step.flops or None,
            "memory": sum(map(_nbytes, (*origin.inputs, *origin.outputs))),
            "in_shapes": [_shape(s) for s in origin.inputs],
            "out_shapes": [_shape(s) for s in origin.outputs],
            "param": {},
        }
    thread = f"thread({os.getpid()})"
    host = {number: {thread: times[_DEVICE]} for number, times in device.items()}
    return {
        "graph_exec": graph_exec(steps),
        "profiler": {"device": device, "host": host, "opr_footprint": footprint, "opr_internal_pf": {}},
    }


def chrome_trace(steps: Sequence[StepTime]) -> dict[str, Any]:
    """A trace that Perfetto and ``chrome://tracing`` open: one slice per step, with its algorithm and speed."""
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": os.getpid(), "tid": 0, "args": {"name": "megengine_lite"}}
    ]
    clock = 0.0
    for step in steps:
        origin = step.origin
        arguments: dict[str, Any] = {
            "algorithm": step.kernel,
            "inputs": [_shape(s) for s in origin.inputs],
            "outputs": [_shape(s) for s in origin.outputs],
        }
        if step.flops and step.seconds:
            arguments["GFLOP/s"] = round(step.flops / step.seconds * 1e-9, 2)
        events.append(
            {
                "name": origin.name or origin.op,
                "cat": origin.op,
                "ph": "X",
                "pid": os.getpid(),
                "tid": 0,
                "ts": clock * 1e6,
                "dur": step.seconds * 1e6,
                "args": arguments,
            }
        )
        clock += step.seconds
    return {"traceEvents": events, "displayTimeUnit": "ns"}


FORMS = {"megengine": original_form, "chrome": chrome_trace}
"""The forms in which a profile can be written."""
