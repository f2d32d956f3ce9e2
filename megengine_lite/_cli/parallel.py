"""Several networks of one model that run at the same time, each in a thread of its own."""

from __future__ import annotations

import threading
from argparse import Namespace
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from megengine_lite._cli import flags, number_types
from megengine_lite._cli.gflags import UsageError, add_switch
from megengine_lite._records import record

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork


MOST_PER_PROCESSOR = 64
"""Networks at the same time: more of them take memory, and wait for each other."""


def add_parallel_flags(group: Any) -> None:
    """Declares what :func:`load_networks` reads."""
    group.add_argument(
        "--thread", type=number_types.positive, default=1, metavar="N", help="networks that run at the same time (1)"
    )
    add_switch(group, "share-param-mem", "these networks share one copy of the weights")


@record(slots=True)
class LoadedNetworks:
    """Networks, and the seconds that loading the first one took."""

    networks: list[LiteNetwork]
    seconds: float


def load_networks(args: Namespace) -> LoadedNetworks:
    """The networks of ``--thread``."""
    from megengine_lite import LiteGlobal
    from megengine_lite.struct import LiteDeviceType

    processors = LiteGlobal.get_device_count(LiteDeviceType.LITE_CPU)
    if args.thread > MOST_PER_PROCESSOR * processors:
        most = f"{MOST_PER_PROCESSOR * processors} can run at the same time on {processors} processor(s)"
        raise UsageError(f"{args.thread} networks: at most {most}; give a smaller number")
    loaded = flags.load_network(args)
    share = loaded.network if args.share_param_mem else None
    others = [flags.load_network(args, share).network for _ in range(args.thread - 1)]
    return LoadedNetworks([loaded.network, *others], loaded.seconds)


def on_each(networks: list[LiteNetwork], work: Callable[[int, LiteNetwork], Iterable[object]]) -> float:
    """Takes all items of ``work(number, network)`` for all networks at the same time; gives the seconds that this took.

    The calling thread works on the first one. After an exception in one of them the others end with their present item,
    and the exception is raised then: Ctrl-C does not wait for measurements of minutes.
    """
    errors: list[BaseException] = []

    def call(k: int) -> None:
        try:
            for _ in work(k, networks[k]):
                if errors:
                    break
        except BaseException as error:  # raised again below
            errors.append(error)

    helpers = [threading.Thread(target=call, args=(k,)) for k in range(1, len(networks))]
    begin = perf_counter()
    try:
        for thread in helpers:
            thread.start()
        call(0)
        for thread in helpers:
            thread.join()
    except BaseException as error:  # an interrupt while others work, or a thread that the system refuses
        errors.append(error)
        for thread in helpers:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[0]
    return perf_counter() - begin
