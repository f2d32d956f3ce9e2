"""Profiles as files: JSON in the original's form, which its analysis tools read, and Chrome traces."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from megengine_lite._codes import CodeEnum
from megengine_lite._core.device.plan import Origin, StepTime
from megengine_lite._core.ir.foreign import ForeignNode
from megengine_lite._core.ir.graph import NOT_NUMBERED, Spec, TensorSpec
from megengine_lite._core.ir.image_layouts import dense_strides
from megengine_lite._core.ir.params import Param
from megengine_lite._core.reports.original_names import CONSTANT, DEVICE, Listed, type_name
from megengine_lite._records import field, fields, is_record, record

# Values of constants up to this size are written; for larger ones there is a note.
_SHOWN_SIZE = 10
_LARGE = "Large Array"


def _shape(spec: Spec) -> list[int]:
    return list(spec.shape) if isinstance(spec, TensorSpec) else []


def _nbytes(spec: Spec) -> int:
    return spec.nbytes if isinstance(spec, TensorSpec) else 0


@record(slots=True)
class Work:
    """The steps of one operator: ``first`` .. ``first + len(kernels) - 1`` of a run."""

    number: int
    name: str
    origin: Origin
    first: int
    kernels: list[str] = field(default_factory=list)
    seconds: float = 0.0
    flops: int = 0


class Report:
    """The steps of a run under the original's names and numbers.

    Steps that belong together count as one operator, with the number of the file's operator whose result they compute.
    Steps that belong to no operator of the file, such as conversions between layouts, have numbers after those of the
    file.

    Parameters
    ----------
    steps
        In order.
    listed
        The operators of the file.
    """

    def __init__(self, steps: Sequence[StepTime], listed: Sequence[Listed]):
        self._owners = {v.id: o for o in listed for v in o.outputs if v.id != NOT_NUMBERED}
        self._vars = {v.id: v for o in listed for v in o.outputs}
        self._numbers = {v.id: n for o in listed for v, n in zip(o.outputs, o.numbers, strict=True)}
        self._names = {v.id: name for o in listed for v, name in zip(o.outputs, o.names, strict=True)}
        self._next = max((max(o.number, *o.numbers) for o in listed), default=-1) + 1
        self._taken: set[int] = set()
        self.works: list[Work] = []
        for place, step in enumerate(steps):
            origin = step.origin
            if not self.works or not _are_one(origin, self.works[-1].origin):
                self.works.append(Work(*self._called(origin), origin, place))
            work = self.works[-1]
            work.kernels.append(step.kernel)
            work.seconds += step.seconds
            work.flops += step.flops

    def _called(self, origin: Origin) -> tuple[int, str]:
        owner = next((self._owners[v] for v in origin.output_ids if v in self._owners), None)
        if owner is not None and owner.number not in self._taken:
            self._taken.add(owner.number)
            return owner.number, owner.name
        number = self._fresh()
        return number, f"{origin.op.lower()}({origin.name})[{number}]"

    def _fresh(self) -> int:
        self._next += 1
        return self._next - 1

    def _variable(self, var: int) -> str:
        """The number of a variable of the file, or of a variable that a pass has made."""
        if var not in self._numbers:
            self._numbers[var] = self._fresh()
        return str(self._numbers[var])

    # ---- the part that tells what ran -------------------------------------------------------------------------------

    def graph(self) -> dict[str, Any]:
        """Operators, variables, memory, and order: ``graph_exec``.

        Each variable that is read has an operator. So inputs, constants, and variables that were computed while the
        plan was made are among the operators, but not in the order of execution.
        """
        specs: dict[int, Spec] = {}
        operators: dict[str, Any] = {}
        reads: dict[int, Sequence[int]] = {}
        for work in self.works:
            origin = work.origin
            specs.update(zip(origin.input_ids, origin.inputs, strict=True))
            specs.update(zip(origin.output_ids, origin.outputs, strict=True))
            reads.update(dict.fromkeys(origin.output_ids, origin.input_ids))
            extra = {"algorithm": ", ".join(dict.fromkeys(work.kernels)), "steps": len(work.kernels)}
            operators[str(work.number)] = self._operator(
                work.number, work.name, type_name(origin.op), origin.input_ids, origin.output_ids, extra
            )
        unread = [v for work in reversed(self.works) for v in reversed(work.origin.input_ids)]
        while unread:
            var = unread.pop()
            if var not in reads:
                unread += self._add_planned(var, operators, reads)
        entries = {self._variable(v): self._entry(v, specs.get(v), inputs) for v, inputs in reads.items()}
        return {
            "operator": operators,
            "var": {number: entry for number, (entry, _) in entries.items()},
            "mem_chunk": {f"chk{number}": _chunk(number, size) for number, (_, size) in entries.items()},
            "comp_seq": [str(work.number) for work in self.works],
        }

    def _add_planned(self, var: int, operators: dict[str, Any], reads: dict[int, Sequence[int]]) -> Sequence[int]:
        """Adds the operator of a variable that no step computes; returns the variables that it reads."""
        owner = self._owners.get(var)
        if owner is None:  # a pass has made it of constants
            number = self._fresh()
            reads[var] = ()
            operators[str(number)] = self._operator(number, f"const[{number}]", CONSTANT, (), (var,), {})
            return ()
        inputs = [v.id for v in owner.node.inputs] if owner.node is not None else []
        outputs = [v.id for v in owner.outputs if v.id != NOT_NUMBERED and v.id not in reads]
        number = self._fresh() if owner.number in self._taken else owner.number
        self._taken.add(number)
        reads.update(dict.fromkeys(outputs, inputs))
        operators[str(number)] = self._operator(number, owner.name, owner.type, inputs, outputs, {})
        return inputs

    def _operator(
        self, number: int, name: str, kind: str, inputs: Iterable[int], outputs: Iterable[int], extra: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "node_type": "operator",
            "id": str(number),
            "name": name,
            "type": kind,
            "input": [self._variable(v) for v in inputs],
            "output": [self._variable(v) for v in outputs],
            "extra": extra,
            "waiting_spec": {},
        }

    def _entry(self, var: int, spec: Spec | None, reads: Sequence[int]) -> tuple[dict[str, Any], int]:
        """A variable, and its bytes. Addresses are 0: memory is assigned per plan."""
        number = self._variable(var)
        stored = self._vars.get(var)
        if spec is None and stored is not None:
            spec = stored.spec  # of inputs and constants
        shape = list(spec.shape) if isinstance(spec, TensorSpec) else None
        plan = None
        if spec is not None and shape is not None:
            layout = {"shape": shape, "stride": dense_strides(shape), "dtype": spec.dtype.original_name}
            plan = {"mem_chunk_id": f"chk{number}", "offset_byte": 0, "layout": layout}
        known, value = "NO_DESC", _tag("NO_DESC", None, [])
        if shape is not None:
            known = "RT_STATIC"
        if stored is not None and stored.const is not None:
            known = "CONST"
            value = _tag(known, _LARGE, [])
            if stored.const.array.size <= _SHOWN_SIZE:
                value = _tag(known, [_number(x) for x in stored.const.array.ravel().tolist()], [])
        deps = [{"var": self._variable(v), "dep_type": "SHAPE"} for v in dict.fromkeys(reads)]
        entry = {
            "node_type": "var",
            "id": number,
            "name": self._names.get(var, f"var{number}"),
            "comp_node": DEVICE,
            "dev_ptr": 0,
            "prev_dev_ptr": 0,
            "flag": [],
            "mem_plan": plan,
            "mem_readonly_fwd_src": None,
            "force_update_src": None,
            "static_infer_tags": {"SHAPE": _tag(known, shape, deps), "VALUE": value},
        }
        return entry, _nbytes(spec) if spec is not None else 0

    # ---- the part that tells how long it took -----------------------------------------------------------------------

    def times(self) -> dict[str, Any]:
        """Seconds from the start of the run, and how much there was to do: ``profiler``."""
        device: dict[str, Any] = {}
        footprint: dict[str, Any] = {}
        clock = 0.0
        for work in self.works:
            number = str(work.number)
            end = clock + work.seconds
            device[number] = {DEVICE: {"start": clock, "kern": clock, "end": end}}
            clock = end
            origin = work.origin
            footprint[number] = {
                "computation": work.flops or None,
                "memory": sum(map(_nbytes, (*origin.inputs, *origin.outputs))),
                "in_shapes": [_shape(s) for s in origin.inputs],
                "out_shapes": [_shape(s) for s in origin.outputs],
                "param": parameter_values(origin.params),
            }
        thread = f"thread({os.getpid()})"
        host = {number: {thread: times[DEVICE]} for number, times in device.items()}
        return {"device": device, "host": host, "opr_footprint": footprint, "opr_internal_pf": {}}


def _are_one(a: Origin, b: Origin) -> bool:
    """Whether two successive steps belong to one operator."""
    return bool(a.output_ids) and (a.op, a.input_ids, a.output_ids) == (b.op, b.input_ids, b.output_ids)


def _tag(known: str, result: Any, deps: list[dict[str, str]]) -> dict[str, Any]:
    return {"node_type": "static_infer_tag", "infer_type": known, "inferred_result": result, "deps": deps}


def _chunk(number: str, nbytes: int) -> dict[str, Any]:
    return {"node_type": "mem_chunk", "id": f"chk{number}", "size": nbytes, "owner_var": number, "dev_ptr": 0}


def parameter_values(params: Any) -> dict[str, Any]:
    """The parameters of an operator that are numbers or choices, by name."""
    values: Mapping[str, Any] = {}
    if isinstance(params, Param | ForeignNode):
        values = params.values()
    elif is_record(params):  # of a fused operator
        values = {f.name: getattr(params, f.name) for f in fields(params)}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, CodeEnum):
            found[name] = value.name
        elif isinstance(value, bool | int | float | str):
            found[name] = _number(value)
    return found


def _number(value: Any) -> Any:
    """The value, as text if JSON has no such number."""
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def original_form(steps: Sequence[StepTime], listed: Sequence[Listed]) -> dict[str, Any]:
    """The JSON object of the original's profiler."""
    report = Report(steps, listed)
    return {"graph_exec": report.graph(), "profiler": report.times()}


# Inputs and outputs of which a slice of a trace shows the shapes: a concatenation of thousands has a slice for each.
MOST_SHAPES = 32


def chrome_trace(steps: Sequence[StepTime], listed: Sequence[Listed]) -> dict[str, Any]:
    """A trace that Perfetto and ``chrome://tracing`` open: one slice per step, with its algorithm and speed."""
    here = {"pid": os.getpid(), "tid": 0}
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", **here, "args": {"name": "megengine_lite"}},
        {"name": "thread_name", "ph": "M", **here, "args": {"name": "forward"}},
    ]
    clock = 0.0
    for work in Report(steps, listed).works:
        for step in steps[work.first : work.first + len(work.kernels)]:
            origin = step.origin
            arguments: dict[str, Any] = {
                "algorithm": step.kernel,
                "operator": work.name,
                "inputs": [_shape(s) for s in origin.inputs[:MOST_SHAPES]],
                "outputs": [_shape(s) for s in origin.outputs[:MOST_SHAPES]],
            }
            if step.flops and step.seconds:
                arguments["GFLOP/s"] = round(step.flops / step.seconds * 1e-9, 2)
            events.append(
                {
                    "name": origin.name or origin.op,
                    "cat": origin.op,
                    "ph": "X",
                    **here,
                    "ts": clock * 1e6,
                    "dur": step.seconds * 1e6,
                    "args": arguments,
                }
            )
            clock += step.seconds
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def slices(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps in a Chrome trace."""
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


FORMS = {"megengine": original_form, "chrome": chrome_trace}
"""The forms in which a profile can be written."""
