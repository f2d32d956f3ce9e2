"""Flags that say how a network is loaded and run; the names of the original's ``load_and_run`` where it has one."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from megengine_lite.errors import LiteError, LiteValueError

if TYPE_CHECKING:
    from megengine_lite import LiteConfig, LiteNetwork

# flag -> (what it says, field of LiteOptions, value)
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

_CPU_ONLY = "this build runs on CPUs"
_ALWAYS = "the graph is always optimized; --option graph_opt_level=0 switches that off"
# Flags of load_and_run that cannot have their effect here -> why, and what to do instead.
REFUSED_FLAGS: dict[str, str] = {
    "cuda": _CPU_ONLY,
    "tensorrt": _CPU_ONLY,
    "tensorrt-cache": _CPU_ONLY,
    "enable-chwn4": "that layout exists on CUDA devices only",
    "enable-ioc16": "float16 is computed where the model says float16",
    "enable-fuse-conv-bias-nonlinearity": _ALWAYS,
    "enable-fuse-conv-bias-with-z": _ALWAYS,
    "optimize-for-inference": _ALWAYS,
    "fuse-grain": "this runtime fuses by its own rules",
    "disable-mem-opt": "use --option force_dynamic_alloc=1",
    "c-opr-init-interface": "libraries are initialized by mgb_c_opr_init",
    "c-opr-lib-with-param": "dynamic parameters of C operators need the original's C++ interface",
    "io-dump-stdout": "use --io-dump /dev/stdout",
    "io-dump-stderr": "use --io-dump /dev/stderr",
    "bin-out-dump": "use --output FILE.npz or --bin-io-dump DIR",
    "copy-to-host": "results are in the memory of the host already",
    "range": "use the command verify",
    "check-var-value": "use --io-dump",
    "check-dispatch": "it looks for faults of the original",
    "disable-assert-throw": "checks in the model (AssertEqual) always count",
    "wait-gdb": "start a debugger with the process instead",
    "model-info": "use the command info",
    "model-dump": "use the command convert",
    "packed-model-dump": "use the command pack",
    "profile-host": "use the command profile",
    "lite": "there is one way to run a model",
    "mdl": "there is one way to run a model",
}


class _Refuse(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        reason = REFUSED_FLAGS[str(option_string).lstrip("-")]
        parser.error(f"{option_string} is not supported: {reason}")


def normalize(argv: Sequence[str]) -> list[str]:
    """Flags as argparse knows them, from the forms that ``load_and_run`` takes.

    One or two dashes, ``-`` or ``_`` within the name, ``--flag=true``, ``--flag=false``, ``--noflag``.
    """
    out: list[str] = []
    for k, word in enumerate(argv):
        if word == "--":
            return [*out, *argv[k:]]
        match = re.fullmatch(r"--?([A-Za-z][\w-]+)(=.*)?", word, re.S)
        if match is None:
            out.append(word)
            continue
        name, value = match[1].replace("_", "-"), match[2] or ""
        if name.startswith("no") and name[2:] in OPTION_FLAGS:
            name = f"no-{name[2:]}"
        if name in OPTION_FLAGS and value in ("=true", "=false"):
            name, value = name if value == "=true" else f"no-{name}", ""
        out.append(f"--{name}{value}")
    return out


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the model and everything that :func:`load_network` reads."""
    parser.add_argument("model", metavar="MODEL", help="model file: plain, packed (.lite) or encrypted")
    group = parser.add_argument_group("how to open it")
    add_decryption_flags(group)
    group.add_argument("--ignore-info", action="store_true", help="do not let a package's information decide settings")
    group.add_argument("--c-opr-lib", metavar="LIB", help="open a library of C operators first")
    group = parser.add_argument_group("threads")
    group.add_argument("--threads", "--multithread", type=positive, metavar="N", help="threads for one run (1)")
    group.add_argument(
        "--multithread-default", type=positive, metavar="N", help="the same; the calling thread is one of them"
    )
    group.add_argument("--cpu", action="store_true", help="run on the CPU: the only device")
    group.add_argument("--cpu-default", action="store_true", help="run in the calling thread")
    group.add_argument("--multi-thread-core-ids", metavar="IDS", help="cores to run on, as in 0,1")
    group = parser.add_argument_group("optimization")
    for flag, (text, field, _) in OPTION_FLAGS.items():
        name = flag.replace("-", "_")
        group.add_argument(f"--{flag}", dest=name, action="store_true", default=None, help=f"{text} ({field})")
        group.add_argument(f"--no-{flag}", dest=name, action="store_false", default=None, help=argparse.SUPPRESS)
    group.add_argument(
        "--option", action="append", default=[], metavar="NAME=N", help="any field of LiteOptions; may be repeated"
    )
    group.add_argument("--layout-transform", choices=["cpu"], help="search the best layout for each operator")
    group.add_argument("--layout-transform-dump", metavar="FILE", help="write the model with these layouts")
    group = parser.add_argument_group("choice of algorithms")
    group.add_argument("--fast-run", action="store_true", help="measure, among the optimized algorithms")
    group.add_argument("--full-run", action="store_true", help="measure all algorithms")
    group.add_argument("--reproducible", action="store_true", help="only algorithms that give the same bits each time")
    group.add_argument("--fast-run-algo-policy", metavar="FILE", help="cache of measurements: read, then written")
    group.add_argument("--fast-run-shared-batch-size", type=positive, default=0, metavar="N", help="measure at batch N")
    group.add_argument(
        "--binary-equal-between-batch", action="store_true", help="the same algorithms, and bits, at every batch size"
    )
    group.add_argument("--workspace-limit", type=int, metavar="BYTES", help="scratch memory of one operator")
    for flag in REFUSED_FLAGS:
        parser.add_argument(f"--{flag}", action=_Refuse, nargs="?", help=argparse.SUPPRESS)


def add_decryption_flags(group: Any) -> None:
    """``--decrypt`` and ``--key``."""
    group.add_argument("--decrypt", metavar="METHOD", help="how the file is encrypted, for example AES_default")
    group.add_argument("--key", metavar="HEX", help=KEY_HELP)


def positive(text: str) -> int:
    """Type of arguments that count something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


KEY_HELP = "key of the method: hexadecimal digits, @FILE, or env:NAME for the text of an environment variable"


def read_key(text: str) -> bytes:
    """A key from what the command line says of it.

    Raises
    ------
    LiteValueError
        Not a key; the message does not repeat it.
    """
    if text.startswith("@"):
        with open(text[1:], "rb") as file:
            return file.read()
    if text.startswith("env:"):
        value = os.environ.get(text[4:])
        if value is None:
            raise LiteValueError(f"the environment variable {text[4:]!r} for the key is not set")
        return value.encode()
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise LiteValueError("a key is an even number of hexadecimal digits, @FILE, or env:NAME") from None


def use_key(args: argparse.Namespace) -> None:
    """Gives the method of ``--decrypt`` the key of ``--key``."""
    from megengine_lite import LiteGlobal

    if args.key:
        if not args.decrypt:
            raise LiteValueError("--key needs --decrypt METHOD")
        LiteGlobal.update_decryption_key(args.decrypt, read_key(args.key))


def _config(args: argparse.Namespace) -> LiteConfig:
    from megengine_lite import LiteConfig, LiteOptions

    options = LiteOptions()
    for flag, (_, field, value) in OPTION_FLAGS.items():
        given = getattr(args, flag.replace("-", "_"))
        if given is not None:
            setattr(options, field, value if given else int(not value))
    if options.comp_node_seq_record_level == 2:
        options.var_sanity_check_first_run = 0
    for text in args.option:
        name, separator, value = text.partition("=")
        if not separator or not value.lstrip("-").isdigit():
            raise LiteValueError(f"--option takes NAME=N, not {text!r}")
        setattr(options, name, int(value))
    config = LiteConfig(option=options)
    if args.decrypt:
        config.bare_model_cryption_name = args.decrypt
    return config


@dataclass(slots=True)
class LoadedNetwork:
    """A network and the seconds that loading took."""

    network: LiteNetwork
    seconds: float


def load_network(args: argparse.Namespace, share_with: LiteNetwork | None = None) -> LoadedNetwork:
    """Makes the network that the flags describe and loads its model, or takes the weights of another one."""
    from megengine_lite import LiteAlgoSelectStrategy, LiteExtraConfig, LiteGlobal, LiteNetwork

    if args.c_opr_lib:
        LiteGlobal.set_loader_lib_path(args.c_opr_lib)
    use_key(args)
    if args.fast_run_algo_policy:
        LiteGlobal.set_persistent_cache(args.fast_run_algo_policy)
    network = LiteNetwork(_config(args))
    if args.ignore_info:
        network.extra_configure(LiteExtraConfig(True))
    if args.cpu_default or args.multithread_default:
        network.enable_cpu_inplace_mode()
    network.threads_number = args.multithread_default or args.threads or 1
    if args.layout_transform or args.layout_transform_dump:
        network.enable_global_layout_transform()
    strategy = LiteAlgoSelectStrategy
    policy = 0
    if args.fast_run or args.full_run:
        policy = strategy.LITE_ALGO_PROFILE | (strategy.LITE_ALGO_OPTIMIZED if args.fast_run else 0)
    if args.reproducible or args.binary_equal_between_batch:
        policy |= strategy.LITE_ALGO_REPRODUCIBLE
    if policy or args.fast_run_shared_batch_size:
        if not policy & strategy.LITE_ALGO_PROFILE:
            policy |= strategy.LITE_ALGO_HEURISTIC
        network.set_network_algo_policy(policy, args.fast_run_shared_batch_size, args.binary_equal_between_batch)
    if args.multi_thread_core_ids:
        _pin(args.multi_thread_core_ids)
    _import_engine()
    begin = perf_counter()
    if share_with is None:
        network.load(args.model)
    else:
        network.share_weights_with(share_with)
    seconds = perf_counter() - begin
    if args.workspace_limit is not None:
        network.set_network_algo_workspace_limit(args.workspace_limit)
    return LoadedNetwork(network, seconds)


def _import_engine() -> None:
    """Loads code that a network imports when it is needed, so that times of models have none of it."""
    from megengine_lite._core import session  # noqa: F401
    from megengine_lite._core.kernel_set import kernel_set

    kernel_set()


def _pin(ids: str) -> None:
    """Binds the process, and so the threads that it starts later, to cores."""
    try:
        os.sched_setaffinity(0, [int(i) for i in ids.split(",")])
    except (ValueError, OSError) as error:
        raise LiteError(f"cannot run on the cores {ids!r}: {error}") from None


def finish(args: argparse.Namespace, network: LiteNetwork) -> None:
    """Writes what the flags ask for at the end of a run."""
    from megengine_lite import LiteGlobal

    if args.fast_run_algo_policy:
        LiteGlobal.dump_persistent_cache(args.fast_run_algo_policy)
    if args.layout_transform_dump:
        network.dump_layout_transform_model(args.layout_transform_dump)
