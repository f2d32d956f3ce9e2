"""Runs generated graphs by the original MegEngine Lite and here, and compares both with the definitions in numpy.

    python tools/compare_with_original.py --python /path/of/a/python/with/megenginelite --count 350

Graphs are written as model files. Outputs that the original cannot hand out (float16, quantized, bool) are converted to
float32 in the file, and float16 inputs from it. What the original is known to compute wrongly is listed in
:data:`FAULTS`, what it does not load in :data:`REFUSED`. Ends with status 1 if this package is wrong, or if the
original differs from the definition and no known fault explains it.
"""

from __future__ import annotations

import argparse
import re
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from generated.check import Checker  # noqa: E402
from generated.expected import evaluate  # noqa: E402
from generated.files import model_bytes  # noqa: E402
from generated.grammar import FAMILIES, make_case, used_graph  # noqa: E402
from generated.maker import Case  # noqa: E402
from generated.settings import INSTRUCTION_SETS, Setting  # noqa: E402
from generated.shrink import describe  # noqa: E402

from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, INT32  # noqa: E402
from megengine_lite._core.ir.graph import ModelGraph, Node, TensorSpec, Var  # noqa: E402
from megengine_lite._core.ir.params import DTypeTable, ElemwiseMultiTypeMode, PoolingMode, TopKMode  # noqa: E402
from megengine_lite._core.ir.quantize import to_float32  # noqa: E402
from megengine_lite._core.operators import REGISTRY  # noqa: E402

SETTINGS = ("default", "unoptimized", "threads", "preprocessed", "nchw88", "nchw44", "fastrun")
_FIRST_NUMBER = 1_000_000  # of variables that are added to a graph
_EXP_LIMIT = 88.0


# ---- what the original is known to do -------------------------------------------------------------------------------


def _view_and_other(case: Case) -> bool:
    """An elementwise function of a part of a tensor, which is not dense, and of something that is repeated."""
    views: set[Var] = set()
    for n in case.graph.nodes:
        is_dense = n.op == "Reshape" or (n.op == "AxisAddRemove" and n.inputs[0] not in views)
        if REGISTRY[n.op].moves_elements and not is_dense:
            views.update(n.outputs)
        shapes = {v.shape for v in n.inputs}
        if n.op.startswith("Elemwise") and len(shapes) > 1 and not views.isdisjoint(n.inputs):
            return True
    return False


def _low_softmax(case: Case) -> bool:
    """A row of a softmax lies below the smallest exponent of float32."""
    for run in case.runs:
        values = evaluate(case.graph, run)
        for node in case.graph.nodes:
            if node.op == "Softmax" and float(values[node.inputs[0]].astype(np.float64).min(initial=0)) < -_EXP_LIMIT:
                return True
    return False


def _half_pooling(case: Case) -> bool:
    return any(
        n.op == "Pooling"
        and n.inputs[0].dtype == FLOAT16
        and n.params.mode != PoolingMode.MAX
        and (n.params.pad_h % 2 or n.params.pad_w % 2)
        for n in case.graph.nodes
    )


def _half_convolution(case: Case) -> bool:
    """A convolution of float16: its bias is lost unless the filter is 1 x 1, and it reads memory that nobody wrote, so
    that results change from run to run."""
    return any(n.op in ("Convolution", "ConvBiasForward") and n.inputs[0].dtype == FLOAT16 for n in case.graph.nodes)


def _oblong_depthwise(case: Case) -> bool:
    """A convolution of bytes channel by channel takes a filter of height 2, 3, 5 or 7 for a square."""
    return any(
        n.op in ("Convolution", "ConvBiasForward")
        and n.inputs[0].dtype.is_quantized
        and len(n.inputs[1].shape) == 5
        and n.inputs[1].shape[3] in (2, 3, 5, 7)
        and n.inputs[1].shape[3] != n.inputs[1].shape[4]
        for n in case.graph.nodes
    )


def _quantized_addend(case: Case) -> bool:
    """The input z of a ConvBias of bytes is ignored."""
    return any(n.op == "ConvBiasForward" and len(n.inputs) == 4 for n in case.graph.nodes)


def _masked_fill(case: Case) -> bool:
    """Only the first run is right."""
    return len(case.runs) > 1 and any(n.op == "MaskedFill" for n in case.graph.nodes)


def _open_order(case: Case) -> bool:
    """The order of the elements of a TopK that does not sort is open; here they come sorted."""
    return any(n.op == "TopK" and n.params.mode == TopKMode.VALUE_IDX_NOSORT for n in case.graph.nodes)


def _far_tanh(case: Case) -> bool:
    """The tanh of bytes divides two powers of e, which overflow when the argument lies beyond 88."""
    modes = (ElemwiseMultiTypeMode.QTANH, ElemwiseMultiTypeMode.QFUSE_ADD_TANH)
    for node in case.graph.nodes:
        if node.op == "ElemwiseMultiType" and node.params.mode in modes:
            for run in case.runs:
                values = evaluate(case.graph, run)
                total = sum(to_float32(values[v], v.dtype) for v in node.inputs)
                if np.abs(total).max(initial=0) > _EXP_LIMIT:
                    return True
    return False


def _padded_channels(case: Case) -> bool:
    """A convolution whose channels do not fill blocks of eight."""
    variables = [v for n in case.graph.nodes if n.op.startswith("Conv") for v in (*n.inputs, *n.outputs)]
    return any(len(v.shape) == 4 and v.shape[1] % 8 for v in variables)


FAULTS: list[tuple[str, tuple[str, ...], Callable[[Case], bool]]] = [
    ("a slice that is not dense combined with a row vector", SETTINGS, _view_and_other),
    ("softmax rows below -88", SETTINGS, _low_softmax),
    ("average pooling of float16 with odd padding", SETTINGS, _half_pooling),
    ("convolution of float16", SETTINGS, _half_convolution),
    ("convolution of bytes channel by channel with a filter that is not square", SETTINGS, _oblong_depthwise),
    ("ConvBias of bytes without its addend", SETTINGS, _quantized_addend),
    ("MaskedFill in every run but the first", SETTINGS, _masked_fill),
    ("TopK in an order that is open", SETTINGS, _open_order),
    ("tanh of bytes beyond 88", SETTINGS, _far_tanh),
    ("NCHW44 and NCHW88 with channels that do not fill blocks", ("nchw44", "nchw88"), _padded_channels),
]
"""What the original computes wrongly: what, at which settings, in which graphs."""

REFUSED: list[tuple[str, str]] = [
    ("a node that the original never writes, because making it gives another one", r"got_type=\w+ expected_type=\w+"),
    ("ISNAN and ISINF of Elemwise, which have no kernels", r"please add new elemwise to switch mode"),
    ("Where, which release 1.13 does not have", r"failed to find opr with type Where"),
]
"""What the original does not load: what, and a pattern of its message."""


# ---- graphs for the original ----------------------------------------------------------------------------------------


def for_original(case: Case) -> Case:
    """The case with outputs of types that the original hands out, and float32 inputs.

    The original lists a variable once, by its own name.
    """
    graph = used_graph(case.graph)
    number = _FIRST_NUMBER
    runs = [dict(run) for run in case.runs]
    nodes: list[Node] = []
    inputs: list[Var] = []
    instead: dict[Var, Var] = {}
    for v in graph.inputs:
        if v.dtype not in (FLOAT32, INT32):
            wide = Var(number, v.name, TensorSpec(v.shape, FLOAT32))
            instead[v] = Var(number + 1, f"narrow_{v.name}", v.spec)
            number += 2
            nodes.append(Node("TypeCvt", DTypeTable(dtype=v.dtype), [wide], [instead[v]]))
            inputs.append(wide)
            for run in runs:
                run[v.name] = to_float32(run[v.name], v.dtype)
        else:
            inputs.append(v)
    for n in graph.nodes:
        ins = [instead.get(v, v) for v in n.inputs]
        nodes.append(Node(n.op, n.params, ins, n.outputs, n.name, n.output_dtype, n.payload))
    outputs = []
    for v in dict.fromkeys(graph.outputs):
        v = instead.get(v, v)
        if v.dtype not in (FLOAT32, INT32):
            plain = Var(number, f"wide_{v.name}", TensorSpec(v.shape, FLOAT32))
            number += 1
            nodes.append(Node("TypeCvt", DTypeTable(dtype=FLOAT32), [v], [plain]))
            v = plain
        outputs.append(v)
    names = [f"out_{v.name}" if v in inputs else v.name for v in outputs]
    return Case(case.label, ModelGraph(nodes, inputs, outputs, names), runs)


class Original:
    """A process of the original, which is started anew where a graph ends it."""

    SECONDS = 20  # that a graph may take

    def __init__(self, python: str, folder: Path):
        self._command = [python, str(ROOT / "tools" / "run_original.py")]
        self._stem = folder / "graph"
        self._process: subprocess.Popen[str] | None = None

    def run(self, case: Case, setting: str) -> dict[str, np.ndarray]:
        """What the original computes: ``RUN:K`` for each output and ``names``, or ``error``."""
        self._stem.with_suffix(".mge").write_bytes(model_bytes(case.graph, named_variables=True))
        read = {v.name for v in case.graph.inputs}
        arrays = {f"{k}:{name}": a for k, run in enumerate(case.runs) for name, a in run.items() if name in read}
        np.savez(self._stem.with_suffix(".in.npz"), **arrays)
        if self._process is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, bufsize=1
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{setting} {self._stem}\n")
        ready, _, _ = select.select([process.stdout], [], [], self.SECONDS)
        if not ready or not process.stdout.readline():
            self.close()
            return {"error": np.array("the process ended" if ready else f"it takes more than {self.SECONDS} seconds")}
        with np.load(self._stem.with_suffix(".out.npz")) as found:
            return dict(found)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


# ---- comparison -----------------------------------------------------------------------------------------------------


class _Comparison:
    def __init__(self, args: argparse.Namespace, original: Original):
        self.args = args
        self.original = original
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.failed = False

    def compare(self, family: str, seed: int) -> None:
        """Compares one graph at all settings."""
        case = for_original(make_case(family, seed))
        if not case.graph.inputs or not case.graph.nodes:
            return
        checker = Checker(case)
        self.counts["graphs"] += 1
        if checker.uncertain:
            self.counts["graphs that cannot be compared"] += 1
            return
        for isa in INSTRUCTION_SETS if not self.args.only_original else ():
            failure = checker.check(Setting(isa=isa, through="file"))
            if failure is not None:
                self.failed = True
                self.counts[f"wrong here ({isa})"] += 1
                self._show(case, f"here: {failure}")
        compared = False
        for setting in self.args.setting or SETTINGS:
            compared |= self._original(checker, setting, self.original.run(case, setting))
        self.counts["graphs that the original ran"] += compared

    def _original(self, checker: Checker, setting: str, found: dict[str, np.ndarray]) -> bool:
        """Compares what the original computed; gives whether it did."""
        if "error" in found:
            message = str(found["error"])
            reason = next((what for what, pattern in REFUSED if re.search(pattern, message)), "")
            self.counts[f"{setting}: refused" + (f" ({reason})" if reason else "")] += 1
            if not reason:
                self.errors[f"{setting}: {_first_line(message)}"] += 1
                if self.errors[f"{setting}: {_first_line(message)}"] <= self.args.show:
                    self._show(checker.case, f"original, {setting}: {message[:600]}")
            return False
        self.counts[f"{setting}: run"] += 1
        for wrong in self._differences(checker, found):
            fault = next((w for w, where, has in FAULTS if setting in where and has(checker.case)), "")
            if fault:
                self.counts[f"{setting}: differs, known ({fault})"] += 1
            else:
                self.failed = True
                self.counts[f"{setting}: differs"] += 1
                self._show(checker.case, f"original, {setting}: {wrong}")
            break
        return True

    @staticmethod
    def _differences(checker: Checker, found: dict[str, np.ndarray]) -> Iterator[str]:
        names, listed = checker.case.graph.output_names, found["names"].tolist()
        made = {v.name for n in checker.case.graph.nodes for v in n.outputs}
        if not set(listed) <= {*names, *made}:
            yield f"outputs are called {listed} instead of {names}"
            return
        for k, run in enumerate(checker.expected()):
            for name, one in zip(names, run, strict=True):
                if one.uncertain or name not in listed:  # of equal nodes the original keeps one
                    continue
                if wrong := one.difference(found[f"{k}:{listed.index(name)}"]):
                    yield f"run {k}, output {name!r}: {wrong}"

    def _show(self, case: Case, message: str) -> None:
        print(f"== {case.label}: {message}")
        if self.args.graphs:
            print(*(f"  {line}" for line in describe(case)), sep="\n")
        sys.stdout.flush()

    def report(self) -> None:
        """Numbers of graphs and differences."""
        for what, count in sorted(self.counts.items()):
            print(f"{count:6} {what}")
        for what, count in self.errors.most_common():
            print(f"{count:6} {what}")


def _first_line(message: str) -> str:
    """What is the same in messages of one cause."""
    extra = re.search(r"extra message: (.*)", message)
    return re.sub(r"\d+", "0", (extra[1] if extra else message.split("\n")[0]))[:160]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="a Python that has megenginelite")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="may be repeated; all by default")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--count", type=int, default=350, help="seeds of each family (350)")
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="of the original; all by default")
    parser.add_argument("--graphs", action="store_true", help="show the graphs that differ")
    parser.add_argument("--show", type=int, default=1, help="how many refusals of one kind are shown (1)")
    parser.add_argument("--only-original", action="store_true", help="do not run this package")
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        original = Original(args.python, Path(folder))
        comparison = _Comparison(args, original)
        try:
            for seed in range(args.first, args.first + args.count):
                for family in args.family or FAMILIES:
                    comparison.compare(family, seed)
        except KeyboardInterrupt:
            pass
        finally:
            original.close()
    comparison.report()
    return int(comparison.failed)


if __name__ == "__main__":
    sys.exit(main())
