"""Flags that report on a model while it runs: dumps, profiles, ranges, and tables of its inputs and outputs."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._cli import display, number_types
from megengine_lite._cli.gflags import UsageError, add_switch
from megengine_lite._core.system.files import read_file, replace_file
from megengine_lite.log import logger, warn

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork
    from megengine_lite._cli.dumps import OutputDump


class _AddDump(argparse.Action):
    """Adds a dump to ``dumps``; ``--no-NAME`` takes it out again."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        flag = str(option_string)[2:]
        kind = flag.removeprefix("no-")
        dumps = [d for d in namespace.dumps if d[0] != kind]
        namespace.dumps = dumps if flag.startswith("no-") else [*dumps, (kind, values)]


def add_watch_flags(parser: ArgumentParser) -> None:
    """Declares what :class:`Watch` reads."""
    group = parser.add_argument_group("looking at a run")
    parser.set_defaults(dumps=[])

    def add_dump(flag: str, text: str, metavar: str | None) -> None:
        if metavar is not None:
            group.add_argument(f"--{flag}", action=_AddDump, dest="dumps", metavar=metavar, help=text)
            return
        group.add_argument(f"--{flag}", action=_AddDump, dest="dumps", nargs=0, help=text)
        group.add_argument(f"--no-{flag}", action=_AddDump, dest="dumps", nargs=0, help=argparse.SUPPRESS)

    add_dump("io-dump", "write all tensors of each run as text", "FILE")
    add_dump("io-dump-stdout", "the same, on stdout", None)
    add_dump("io-dump-stderr", "the same, on stderr", None)
    add_dump("bin-io-dump", "write all tensors of the last run as binary files", "DIR")
    add_dump("bin-out-dump", "write the outputs of each run as binary files; of all dumps the last counts", "DIR")
    add_switch(group, "copy-to-host", "outputs are in the memory of the host anyway")
    add_switch(group, "model-info", "show inputs and outputs before the run")
    group.add_argument("--profile", metavar="FILE", help="write the times of each step, for the original's tools")
    group.add_argument("--profile-host", metavar="FILE", help="the same: the host is the device")
    group.add_argument(
        "--range",
        type=number_types.distance,
        metavar="X",
        help="fail when a value of any operator is beyond X or -X, or not a number",
    )
    group.add_argument("--get-static-mem-info", metavar="DIR", help="write how the memory of the run is laid out")
    add_switch(group, "wait-gdb", "wait for Enter before the model is loaded, so that a debugger can be attached")


def wait_for_debugger(args: Namespace) -> None:
    """Waits for a line on stdin, if the flags ask for it."""
    if args.wait_gdb:
        print(f"process {os.getpid()} waits for a debugger; Enter goes on", file=sys.stderr, flush=True)
        sys.stdin.readline()


class Watch:
    """Carries out the flags of :func:`add_watch_flags` before, between and after the runs of a network."""

    def __init__(self, args: Namespace, network: LiteNetwork):
        self._args = args
        self._network = network
        self._outputs: OutputDump | None = None
        readers: list[Any] = []
        if args.range is not None:
            from megengine_lite._cli import dumps

            readers.append(dumps.RangeCheck(args.range))
        if args.dumps:
            readers.append(self._dump(*args.dumps[-1]))
        if len(args.dumps) > 1:
            others = ", ".join(f"--{kind}" for kind, _ in args.dumps[:-1])
            warn(f"only the last dump is made: --{args.dumps[-1][0]}, not {others}")
        if readers:
            from megengine_lite._cli import dumps

            dumps.observe(network, readers)
        self._profiles = [path for path in (args.profile, args.profile_host) if path]
        if self._profiles:
            network.enable_profile_performance(self._profiles[0])
        if args.copy_to_host:
            logger.debug("copy_to_host: outputs are in the memory of the host already")

    def _dump(self, kind: str, value: Any) -> Any:
        from megengine_lite._cli import dumps
        from megengine_lite._core.reports import io_dump

        if kind == "io-dump-stdout":
            if self._args.json:
                raise UsageError("--io-dump-stdout and --json both write to stdout: use --io-dump-stderr")
            return dumps.StreamDump(sys.stdout)
        if kind == "io-dump-stderr":
            return dumps.StreamDump(sys.stderr)
        if kind == "io-dump":
            return io_dump.TextDump(value)
        if kind == "bin-io-dump":
            return io_dump.BinaryDump(value)
        self._outputs = dumps.OutputDump(value, self._network)
        return self._outputs

    def model_info(self) -> dict[str, Any]:
        """Names, types and shapes of inputs and outputs, if they are asked for."""
        if not self._args.model_info:
            return {}
        network = self._network
        return {
            "model_info": {
                "inputs": [_layout(n, network.get_io_tensor(n)) for n in network.get_all_input_name()],
                "outputs": [_layout(n, network.get_io_tensor(n)) for n in network.get_all_output_name()],
            }
        }

    def after_run(self) -> None:
        """Call it after each run."""
        if self._outputs is not None:
            self._outputs.write_outputs(self._network)

    def finish(self) -> None:
        """Call it after all runs."""
        for path in self._profiles[1:]:
            replace_file(path, [read_file(self._profiles[0])])
        if self._args.get_static_mem_info:
            self._network.get_static_memory_alloc_info(self._args.get_static_mem_info)


def _layout(name: str, tensor: Any) -> dict[str, Any]:
    layout = tensor.layout
    return {"name": name, "dtype": np.dtype(layout.dtype).name, "shape": list(layout.shapes)}


def info_lines(info: dict[str, Any]) -> Iterator[str]:
    """A table of what :meth:`Watch.model_info` gives."""
    rows = [
        (kind[:-1], t["name"], t["dtype"], display.shape_text(t["shape"]))
        for kind in ("inputs", "outputs")
        for t in info[kind]
    ]
    yield display.table(rows, ("", "name", "type", "shape"))
