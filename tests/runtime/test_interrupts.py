"""An exception at any place of a forward, a wait or a callback leaves a network that computes right numbers.

Ctrl-C, and signal handlers that raise, end Python code between any two of its steps. Here a trace function does it at
each bytecode instruction in turn, on the caller's thread and on the network's.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import numpy as np
import pytest
from support.api_samples import ADD, add, config, loaded, two_inputs
from support.processes import isolated

import megengine_lite
from megengine_lite import LiteNetwork

PACKAGE = str(Path(megengine_lite.__file__).parent)
MOST = 500
"""Instructions of a scenario that are interrupted; of longer ones every second, third …"""
BY_MONITORING = sys.version_info >= (3, 14)
"""A trace function misses what a function does when it is called for the first time there."""
TOOL = 4
"""A number of ``sys.monitoring`` that no other tool uses."""


class Interrupt:
    """Raises KeyboardInterrupt at an instruction of this package or of a callback, counted over all new threads."""

    def __init__(self, at: int):
        self.at = at
        self.count = 0
        self.thread = threading.get_ident()  # that it interrupts
        self._lock = threading.Lock()  # without the GIL, two threads could be at the same count

    def __enter__(self) -> Interrupt:
        if BY_MONITORING:
            sys.monitoring.use_tool_id(TOOL, "interrupt")
            sys.monitoring.register_callback(TOOL, sys.monitoring.events.INSTRUCTION, self._reach)
            sys.monitoring.set_events(TOOL, sys.monitoring.events.INSTRUCTION)
        else:
            threading.settrace(self._trace)
            sys.settrace(self._trace)
        return self

    def __exit__(self, *exception: object) -> None:
        if BY_MONITORING:
            sys.monitoring.set_events(TOOL, 0)
            sys.monitoring.register_callback(TOOL, sys.monitoring.events.INSTRUCTION, None)
            sys.monitoring.free_tool_id(TOOL)
        else:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
        self.at = -1  # a worker goes on with it

    def _trace(self, frame, event, argument):
        if not is_counted(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self._reach(frame.f_code, 0)
        return self._trace

    def _reach(self, code, offset):
        if not is_counted(code):
            return sys.monitoring.DISABLE
        with self._lock:
            self.count += 1
            is_reached = self.count == self.at
        if is_reached:
            self.thread = threading.get_ident()
            raise KeyboardInterrupt(f"instruction {self.at}, in {code.co_qualname}")
        return None


def is_counted(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE) or "callback" in code.co_name


def deferring(network: LiteNetwork) -> LiteNetwork:
    """The next forward goes to the worker, unless the caller waits at once."""
    network._engine._seconds = 1.0
    return network


def forward_and_wait(network: LiteNetwork) -> None:
    network.forward()
    network.wait()


def forward_and_read(network: LiteNetwork) -> None:
    network.forward()
    network.get_io_tensor("sum").to_numpy()
    network.wait()


def inplace() -> LiteNetwork:
    network = LiteNetwork()
    network.enable_cpu_inplace_mode()
    network.load(ADD)
    add(network, 1, 2)
    return network


def plain() -> LiteNetwork:
    network = loaded(ADD)
    add(network, 1, 2)
    return network


def with_options(**options) -> LiteNetwork:
    network = loaded(ADD, config(**options))
    add(network, 1, 2)
    return network


def asynchronous() -> LiteNetwork:
    network = plain()
    network.async_with_callback(lambda: None)
    return network


def asynchronous_nested() -> LiteNetwork:
    network = plain()
    rounds: list[int] = []

    def callback():
        rounds.append(1)
        if len(rounds) % 2:
            network.forward()
        network.get_io_tensor("sum").to_numpy()

    network.async_with_callback(callback)
    return network


def calling_back() -> LiteNetwork:
    network = plain()

    def start_callback(inputs):
        inputs["a"].to_numpy()

    def finish_callback(outputs):
        outputs["sum"].to_numpy()

    network.set_start_callback(start_callback)
    network.set_finish_callback(finish_callback)
    return network


def calling_back_nested() -> LiteNetwork:
    network = plain()

    def start_callback(inputs):
        network.forward()
        network.wait()

    def finish_callback(outputs):
        network.forward()
        network.wait()

    network.set_start_callback(start_callback)
    network.set_finish_callback(finish_callback)
    return network


def profiled() -> LiteNetwork:
    network = plain()
    network.enable_profile_performance("/dev/null")
    return network


def with_user_memory() -> LiteNetwork:
    network = loaded(ADD, config(force_output_use_user_specified_memory=True))
    network.get_io_tensor("sum").set_data_by_share(np.zeros((2, 3), "float32"))
    add(network, 1, 2)
    return network


def sharing_memory() -> LiteNetwork:
    network, other = plain(), LiteNetwork()
    other.share_runtime_memory(network)
    other.load(ADD)
    add(other, 5, 5)
    network.other = other
    return network


def sharing_weights() -> LiteNetwork:
    network, other = plain(), LiteNetwork()
    other.share_weights_with(network)
    network.other = other
    return network


def both(network: LiteNetwork) -> None:
    forward_and_wait(network)
    add(network.other, 3, 4)


def other_shape(network: LiteNetwork) -> None:
    for name in "ab":
        network.get_io_tensor(name).set_data_by_copy(np.ones((4, 3), "float32"))
    network.forward()
    network.wait()


def both_shapes() -> LiteNetwork:
    network = plain()
    other_shape(network)
    add(network, 1, 2)
    return network


def discrete() -> LiteNetwork:
    made = config()
    made.discrete_input_name = "a"
    network = loaded(ADD, made)
    network.get_io_tensor("b").set_data_by_copy([2.0] * 6)
    return network


def pieces(network: LiteNetwork) -> None:
    for k in range(2):
        network.get_discrete_tensor("a", k).set_data_by_copy([1.0] * 3)
    network.forward()
    network.wait()


def change_policy(network: LiteNetwork) -> None:
    network.set_network_algo_workspace_limit(1 << 30)
    network.forward()
    network.wait()


def look(network: LiteNetwork) -> None:
    network.get_io_tensor("sum").layout  # noqa: B018
    network.memory_usage  # noqa: B018
    network.forward()


SCENARIOS: dict[str, tuple[Callable[[], LiteNetwork], Callable[[LiteNetwork], None]]] = {
    "forward in place": (inplace, LiteNetwork.forward),
    "forward and wait": (plain, forward_and_wait),
    "forward of any thread": (lambda: deferring(plain()), forward_and_wait),
    "forward of any thread, read": (lambda: deferring(plain()), forward_and_read),
    "forward of the worker": (lambda: with_options(async_exec_level=4), forward_and_wait),
    "two forwards": (lambda: with_options(async_exec_level=4), lambda n: [forward_and_read(n), forward_and_wait(n)]),
    "asynchronous": (asynchronous, forward_and_wait),
    "asynchronous, nested": (asynchronous_nested, forward_and_wait),
    "callbacks": (calling_back, forward_and_wait),
    "callbacks, nested": (calling_back_nested, forward_and_wait),
    "callbacks of any thread, nested": (lambda: deferring(calling_back_nested()), forward_and_wait),
    "profile": (profiled, forward_and_wait),
    "user memory": (with_user_memory, forward_and_wait),
    "fresh outputs": (lambda: with_options(force_output_dynamic_alloc=True), forward_and_wait),
    "no memory kept": (lambda: with_options(force_dynamic_alloc=True), forward_and_wait),
    "shared memory": (sharing_memory, both),
    "shared weights": (sharing_weights, both),
    "known shape": (both_shapes, other_shape),
    "new shape": (plain, other_shape),
    "first forward": (lambda: loaded(ADD), forward_and_wait),
    "fixed shape": (lambda: loaded(ADD, config(const_shape=True)), forward_and_wait),
    "graph is freed": (
        lambda: loaded(ADD, config(comp_node_seq_record_level=2, var_sanity_check_first_run=False)),
        forward_and_wait,
    ),
    "first forward with fake results": (lambda: loaded(ADD, config(fake_next_exec=True)), forward_and_wait),
    "pieces": (discrete, pieces),
    "policy": (lambda: loaded(ADD), change_policy),
    "look": (lambda: loaded(ADD), look),
    "load": (LiteNetwork, lambda n: n.load(ADD)),
}


def add_again(network: LiteNetwork, a: float, b: float) -> list:
    """``a + b`` in the shape of the model, whatever the network has been through."""
    if network.config.discrete_input_name:
        for k in range(2):
            network.get_discrete_tensor("a", k).set_data_by_copy([float(a)] * 3)
    else:
        network.get_io_tensor("a").set_data_by_copy(np.full((2, 3), a, "float32"))
    network.get_io_tensor("b").set_data_by_copy(np.full((2, 3), b, "float32"))
    network.forward()
    network.wait()
    return network.get_io_tensor("sum").to_numpy().tolist()


def compute_as_it_is(network: LiteNetwork) -> None:
    """Computes from the inputs that the interrupt has left, if they fit together."""
    a, b = (network.get_io_tensor(name).to_numpy() for name in "ab")
    if a.shape != b.shape:
        return
    network.forward()
    network.wait()
    if network.config.options.fake_next_exec:
        network.forward()  # that one was left out, perhaps
        network.wait()
    a, b = (network.get_io_tensor(name).to_numpy() for name in "ab")
    np.testing.assert_array_equal(network.get_io_tensor("sum").to_numpy(), a + b)


def interrupted(make: Callable[[], LiteNetwork], work: Callable[[LiteNetwork], None], at: int) -> int:
    """Interrupts the work and checks the network; how many instructions there were."""
    network = make()
    raised = 0
    with Interrupt(at) as interrupt:
        try:
            work(network)
        except KeyboardInterrupt:
            raised += 1
    if network._engine is None:
        network.load(ADD)
    try:
        network.wait()
    except KeyboardInterrupt:
        raised += 1
    # What ends a job of the worker is raised where its results are read, and then once by `wait`.
    most = 1 if interrupt.thread == threading.get_ident() else 2
    assert raised <= most, f"raised again, {at}"
    compute_as_it_is(network)
    for round in range(2):
        assert add_again(network, at, round) == [[at + round] * 3] * 2, f"wrong, {at}"
        if hasattr(network, "other"):
            assert add_again(network.other, round, at) == [[at + round] * 3] * 2, f"the other is wrong, {at}"
    return interrupt.count


@pytest.mark.parametrize("scenario", SCENARIOS)
@isolated
def test_exception_at_any_instruction(scenario):
    make, work = SCENARIOS[scenario]
    total = interrupted(make, work, 0)
    step = -(-total // MOST)
    for at in range(1, total + 1, step):
        interrupted(make, work, at)
    assert total > 100


@pytest.mark.parametrize("defers", [False, True])
@isolated
def test_signals_at_any_time(defers):
    class Late(Exception):
        pass

    def handler(number, frame):
        raise Late

    big = loaded(two_inputs((1 << 16,)), config(async_exec_level=4) if defers else None)
    a, b = big.get_io_tensor("a"), big.get_io_tensor("b")
    source = np.zeros(1 << 16, "float32")
    big.forward()  # makes the plan: in the midst of that, an exception that is no interrupt counts as a fault of ours
    big.wait()
    signal.signal(signal.SIGALRM, handler)
    times = random.Random(3)
    late = 0
    for k in range(1500):
        try:
            signal.setitimer(signal.ITIMER_REAL, times.uniform(1e-6, 3e-4))
            for _ in range(5):
                big.forward()
                big.wait()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Late:
            late += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(Late):
            big.wait()
        if k % 50 == 0:
            source[:] = k
            a.set_data_by_copy(source)
            b.set_data_by_copy(source)
            big.forward()
            big.wait()
            assert (big.get_io_tensor("sum").to_numpy() == 2 * k).all()
    assert late > 100
