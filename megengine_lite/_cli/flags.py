"""Flags that say how a network is loaded and run. Those that the original's ``load_and_run`` has keep their names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from megengine_lite._cli import number_types, progress
from megengine_lite._cli.gflags import UsageError, add_switch
from megengine_lite._cli.keys import add_decryption_flags, use_key
from megengine_lite._core.cpu.isa import instruction_sets
from megengine_lite._core.runtime.devices import get_device
from megengine_lite._core.session_config import PRECISIONS
from megengine_lite._core.system.files import read_file
from megengine_lite._records import asdict, record
from megengine_lite.errors import LiteError, LiteValueError, ModelFormatError
from megengine_lite.log import warn
from megengine_lite.struct import LiteDeviceType

if TYPE_CHECKING:
    from megengine_lite import LiteConfig, LiteNetwork, LiteOptions

# flag -> (description, field of LiteOptions, value)
OPTION_FLAGS: dict[str, tuple[str, str, int]] = {
    "weight-preprocess": ("transform weights before the first run", "weight_preprocess", 1),
    "enable-fuse-preprocess": ("fuse the preparation of inputs", "fuse_preprocess", 1),
    "const-shape": ("the first input shapes are the only ones", "const_shape", 1),
    "fake-first": ("plan in a first run that computes nothing", "fake_next_exec", 1),
    "no-sanity-check": ("do not check the values of the first run", "var_sanity_check_first_run", 0),
    "record-comp-seq": ("record the first run", "comp_node_seq_record_level", 1),
    "record-comp-seq2": ("the same, and free what only planning needs", "comp_node_seq_record_level", 2),
    "enable-jit": ("fuse elementwise chains", "jit_level", 1),
    "enable-nchw4": ("layout of other devices", "enable_nchw4", 1),
    "enable-nchw32": ("layout of other devices", "enable_nchw32", 1),
    "enable-nchw64": ("layout of other devices", "enable_nchw64", 1),
    "enable-nhwcd4": ("layout of other devices", "enable_nhwcd4", 1),
    "enable-nchw44": ("blocked layouts, which are used anyway", "enable_nchw44", 1),
    "enable-nchw44-dot": ("blocked layouts, which are used anyway", "enable_nchw44_dot", 1),
    "enable-nchw88": ("blocked layouts, which are used anyway", "enable_nchw88", 1),
}

# Flags that ask for what optimization always does; they contradict only a graph that is not optimized.
MET_FLAGS = (
    "optimize-for-inference",
    "enable-fuse-conv-bias-nonlinearity",
    "enable-fuse-conv-bias-with-z",
    "fuse-grain",
)

_CPU_ONLY = "this build runs on CPUs; leave it out to run on the CPU"
# Switches of load_and_run that cannot be on here -> why, and what to do instead.
REFUSED_SWITCHES: dict[str, str] = {
    "cuda": _CPU_ONLY,
    "tensorrt": _CPU_ONLY,
    "enable-chwn4": "that layout exists on CUDA devices only",
    "enable-ioc16": "float16 is computed where the model says float16",
    "disable-mem-opt": "tensors share memory by their lifetimes in every plan; --option force_dynamic_alloc=1 gives "
    "it back after each run",
    "c-opr-lib-with-param": "dynamic parameters of C operators need the original's C++ interface",
    "check-dispatch": "it looks for faults of the original",
    "disable-assert-throw": "checks in the model (AssertEqual) always count",
}
# The same for those with a value.
REFUSED_VALUES: dict[str, str] = {
    "tensorrt-cache": _CPU_ONLY,
    "check-var-value": "compare the files of two runs with --bin-io-dump, or use the command verify",
    "dump-cpp-model": "use --model-dump",
}
REFUSED_FLAGS = {**REFUSED_SWITCHES, **REFUSED_VALUES}


class _Refuse(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        reason = REFUSED_FLAGS[str(option_string).lstrip("-")]
        parser.error(f"{option_string} is not supported: {reason}")


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the model and everything that :func:`load_network` reads."""
    parser.add_argument("model", metavar="MODEL", help="model file: plain, packed (.lite) or encrypted")
    group = parser.add_argument_group("how to open it")
    add_decryption_flags(group)
    add_switch(group, "ignore-info", "do not let a package's information decide settings")
    add_library_flags(group)
    group = parser.add_argument_group("threads and kernels")
    group.add_argument(
        "--threads", "--multithread", type=number_types.positive, metavar="N", help="threads for one run (1)"
    )
    group.add_argument(
        "--multithread-default",
        type=number_types.positive,
        metavar="N",
        help="the same; the calling thread is one of them",
    )
    add_switch(group, "cpu", "run on the CPU: the only device")
    add_switch(group, "cpu-default", "run in the calling thread")
    group.add_argument("--multi-thread-core-ids", metavar="IDS", help="cores to run on, one for each thread: 0,1")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="how weights are kept (float32)",
    )
    add_double_flag(group)
    group.add_argument("--prepared", metavar="FILE", help="made of the model by the command prepare")
    group.add_argument("--isa", metavar="NAME", help=f"kernels: {', '.join(instruction_sets())}")
    add_switch(group, "lite", "there is one engine: --lite and --mdl are the same")
    add_switch(group, "mdl", "see --lite")
    group = parser.add_argument_group("optimization")
    for flag, (text, field, _) in OPTION_FLAGS.items():
        add_switch(group, flag, f"{text} ({field})", default=None)
    for flag in MET_FLAGS:
        add_switch(group, flag, "done anyway; contradicts graph_opt_level=0")
    group.add_argument(
        "--option", action="append", default=[], metavar="NAME=N", help="any field of LiteOptions; may be repeated"
    )
    group.add_argument(
        "--layout-transform", type=_device, metavar="cpu", help="search the best layout for each operator"
    )
    group.add_argument("--layout-transform-dump", metavar="FILE", help="write the model with these layouts")
    group = parser.add_argument_group("choice of algorithms")
    add_switch(group, "fast-run", "measure, among the optimized algorithms")
    add_switch(group, "full-run", "measure all algorithms")
    add_switch(group, "reproducible", "only algorithms that give the same bits each time")
    group.add_argument("--fast-run-algo-policy", metavar="FILE", help="cache of measurements: read, then written")
    group.add_argument(
        "--fast-run-shared-batch-size", type=number_types.positive, default=0, metavar="N", help="measure at batch N"
    )
    add_switch(group, "binary-equal-between-batch", "the same algorithms, and bits, at every batch size")
    group.add_argument(
        "--workspace-limit", type=number_types.size, metavar="BYTES", help="scratch memory of one operator"
    )
    for flag in REFUSED_FLAGS:
        parser.add_argument(f"--{flag}", action=_Refuse, nargs="?", help=argparse.SUPPRESS)
    for flag in REFUSED_SWITCHES:  # what is off is off
        parser.add_argument(f"--no-{flag}", action="store_true", help=argparse.SUPPRESS)


def add_double_flag(group: Any) -> None:
    """``--narrow-double``, for commands that read models."""
    add_switch(group, "narrow-double", "compute the double of an ONNX model as float32")


def add_library_flags(group: Any) -> None:
    """``--c-opr-lib`` and ``--c-opr-init-interface``, for :func:`open_library`."""
    group.add_argument("--c-opr-lib", metavar="LIB", help="open a library of C operators first")
    group.add_argument(
        "--c-opr-init-interface", metavar="NAME", help="its function that registers the operators (mgb_c_opr_init)"
    )


def add_warmup_flag(group: Any, default: int, text: str) -> None:
    """``--warmup-iter``: the number of runs that are not measured."""
    group.add_argument(
        "--warmup-iter",
        "--warm-up",
        type=number_types.natural,
        default=default,
        metavar="N",
        help=f"{text} ({default})",
    )


def given_shapes(texts: Sequence[str], names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes that flags give to inputs with these names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        if name not in names or not all(d.isdigit() for d in dims.split("x")):
            raise LiteValueError(f"--shape takes NAME=NxCxHxW with one of the inputs {', '.join(names)}, not {text!r}")
        if name in shapes:
            raise LiteValueError(f"--shape gives input {name!r} two shapes: leave out one of them")
        shapes[name] = tuple(int(d) for d in dims.split("x"))
    return shapes


def _device(text: str) -> str:
    if text != "cpu":
        raise argparse.ArgumentTypeError(f"there is no device {text!r}: this build runs on CPUs")
    return text


def _options(args: argparse.Namespace) -> LiteOptions:
    from megengine_lite import LiteOptions

    options = LiteOptions()
    for flag, (_, field, value) in OPTION_FLAGS.items():
        given = getattr(args, flag.replace("-", "_"))
        if given is not None:
            setattr(options, field, value if given else int(not value))
    if options.comp_node_seq_record_level == 2:
        options.var_sanity_check_first_run = 0
    for text in args.option:
        name, separator, number = text.partition("=")
        if not separator or not number.lstrip("-").isdigit():
            raise UsageError(f"--option takes NAME=N, not {text!r}")
        setattr(options, name, int(number))
    if options.graph_opt_level == 0:
        for flag in MET_FLAGS:
            if getattr(args, flag.replace("-", "_")):
                raise UsageError(f"--{flag} contradicts --option graph_opt_level=0: one of them has to go")
    return options


def _changed_options(options: LiteOptions) -> dict[str, int]:
    """The fields that do not have their default."""
    from megengine_lite import LiteOptions

    default = LiteOptions()
    values = {name: getattr(options, name) for name in LiteOptions.__slots__}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def packed_options(args: argparse.Namespace) -> dict[str, int | bool]:
    """The options for a package that the flags set: those that differ from the default."""
    from megengine_lite._core.formats.containers.information import BOOLEAN_OPTIONS, INTEGER_OPTIONS

    changed = _changed_options(_options(args))
    found: dict[str, int | bool] = {n: bool(changed[n]) for n in BOOLEAN_OPTIONS if n in changed}
    return {**found, **{n: changed[n] for n in INTEGER_OPTIONS if n in changed}}


def config(args: argparse.Namespace) -> LiteConfig:
    """The configuration that the flags describe."""
    from megengine_lite import LiteConfig

    made = LiteConfig(option=_options(args))
    if args.decrypt:
        made.bare_model_cryption_name = args.decrypt
    return made


def _check(args: argparse.Namespace) -> None:
    """Raises for flags that contradict each other."""
    if args.lite and args.mdl:
        raise UsageError("--lite and --mdl exclude each other")
    if args.fast_run and args.full_run:
        raise UsageError("--fast-run and --full-run exclude each other")
    if args.threads and args.multithread_default and args.threads != args.multithread_default:
        raise UsageError("--threads and --multithread-default give different numbers")
    if args.multi_thread_core_ids:
        n = len(args.multi_thread_core_ids.split(","))
        if n != (args.multithread_default or args.threads or 1):
            raise UsageError(f"--multi-thread-core-ids has {n} cores; it takes one for each thread (--threads)")


@record(slots=True)
class LoadedNetwork:
    """A network and the seconds that loading took."""

    network: LiteNetwork
    seconds: float


def load_network(args: argparse.Namespace, share_with: LiteNetwork | None = None) -> LoadedNetwork:
    """Makes the network that the flags describe and loads its model, or takes the weights of another one."""
    from megengine_lite import LiteExtraConfig, LiteGlobal, LiteNetwork

    _check(args)
    open_library(args)
    use_key(args)
    if args.fast_run_algo_policy:
        _check_cache(args.fast_run_algo_policy)
        LiteGlobal.set_persistent_cache(args.fast_run_algo_policy)
    network = LiteNetwork(config(args))
    network._settings.isa = args.isa
    if args.ignore_info:
        network.extra_configure(LiteExtraConfig(True))
    if args.cpu_default or args.multithread_default:
        network.enable_cpu_inplace_mode()
    network.precision, network.narrow_double = args.precision, args.narrow_double
    network.threads_number = args.multithread_default or args.threads or 1
    if network.threads_number > _most_threads():
        warn(f"{network.threads_number} threads: {_most_threads()} are used, the most that work on one run")
    if args.layout_transform or args.layout_transform_dump:
        network.enable_global_layout_transform()
    _choose_algorithms(args, network)
    if args.multi_thread_core_ids:
        _pin(args.multi_thread_core_ids)
    _import_engine(args.isa)
    begin = perf_counter()
    with progress.waiting("loading"):
        if share_with is None:
            network.load(args.model, prepared=args.prepared)
        else:
            network.share_weights_with(share_with)
    seconds = perf_counter() - begin
    if args.workspace_limit is not None:
        network.set_network_algo_workspace_limit(args.workspace_limit)
    return LoadedNetwork(network, seconds)


def _most_threads() -> int:
    """The most threads that work on one run."""
    return get_device(LiteDeviceType.LITE_CPU).most_threads


def _check_cache(path: str) -> None:
    """Raises if the file is not a cache: it would be overwritten at the end."""
    from megengine_lite._core.cpu.algorithms.cache import parse_cache

    if os.path.exists(path) and os.path.getsize(path):
        content = read_file(path)
        try:
            parse_cache(content)
        except ModelFormatError as error:
            raise LiteError(f"--fast-run-algo-policy {path} is no cache of algorithms: {error}") from None


def open_library(args: argparse.Namespace) -> None:
    """Opens the library of ``--c-opr-lib``."""
    if args.c_opr_lib:
        from megengine_lite._core.operators.c_library import load_library

        load_library(args.c_opr_lib, args.c_opr_init_interface or "mgb_c_opr_init")
    elif args.c_opr_init_interface:
        raise UsageError("--c-opr-init-interface needs --c-opr-lib LIB")


def _choose_algorithms(args: argparse.Namespace, network: LiteNetwork) -> None:
    from megengine_lite import LiteAlgoSelectStrategy as Strategy

    policy = 0
    if args.fast_run or args.full_run:
        policy = Strategy.LITE_ALGO_PROFILE | (Strategy.LITE_ALGO_OPTIMIZED if args.fast_run else 0)
    if args.reproducible or args.binary_equal_between_batch:
        policy |= Strategy.LITE_ALGO_REPRODUCIBLE
    if policy or args.fast_run_shared_batch_size:
        if not policy & Strategy.LITE_ALGO_PROFILE:
            policy |= Strategy.LITE_ALGO_HEURISTIC
        network.set_network_algo_policy(policy, args.fast_run_shared_batch_size, args.binary_equal_between_batch)


def _import_engine(isa: str | None) -> None:
    """Imports code that a network imports when it is needed, so that measured times do not include it."""
    from megengine_lite._core.cpu.kernel_set import kernel_set
    from megengine_lite._core.runtime import session  # noqa: F401

    kernel_set(isa)


def describe_settings(network: LiteNetwork) -> dict[str, Any]:
    """Sets how a loaded network runs: options other than the default, choice of algorithms, threads, cores."""
    return {
        "options": _changed_options(network._settings.options),
        "algorithms": asdict(network._algo),
        "threads": min(network.threads_number, _most_threads()),
        "precision": network.precision,
        "narrow_double": network.narrow_double,
        "inplace": network.is_cpu_inplace_mode(),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def instruction_set(args: argparse.Namespace) -> str:
    """Name of the kernels that a network with these flags runs on."""
    from megengine_lite._core.cpu.kernel_set import kernel_set

    return kernel_set(args.isa).name


def _pin(ids: str) -> None:
    """Binds the process, and so the threads that it starts later, to cores."""
    if not hasattr(os, "sched_setaffinity"):
        raise LiteError(f"cannot run on the cores {ids!r}: this system binds no processes to cores")
    try:
        os.sched_setaffinity(0, [int(i) for i in ids.split(",")])
    except (ValueError, OSError) as error:
        raise LiteError(f"cannot run on the cores {ids!r}: {error}") from None


def first_run(args: argparse.Namespace, network: LiteNetwork) -> float:
    """Runs a network for the first time, which plans and may measure algorithms; gives the milliseconds."""
    begin = perf_counter()
    with progress.waiting("measuring algorithms" if args.fast_run or args.full_run else "planning"):
        network.forward()
        network.wait()
    return (perf_counter() - begin) * 1e3


def finish(args: argparse.Namespace, network: LiteNetwork) -> None:
    """Writes what the flags ask for at the end of a run."""
    from megengine_lite import LiteGlobal

    if args.fast_run_algo_policy:
        LiteGlobal.dump_persistent_cache(args.fast_run_algo_policy)
    if args.layout_transform_dump:
        with progress.waiting("writing the model"):
            network.dump_layout_transform_model(args.layout_transform_dump)
