"""Callbacks: what they get, when they are called, what they may do, and what cannot be one."""

import ctypes
import functools
import gc
import threading

import pytest
from support.api_samples import ADD, DIGITS, IMAGES, PROB, add, close, loaded, run

from megengine_lite import LiteIO, LiteNetwork
from megengine_lite.errors import LiteTypeError


def test_callbacks_get_tensors_by_io_and_by_name():
    network = loaded()
    seen = []

    def start(ios):
        (key,) = ios
        assert isinstance(key, LiteIO) and key.name == "data"
        seen.append(("start", ios["data"].to_numpy().shape, ios[LiteIO("data")] is ios["data"], threading.get_ident()))

    def finish(ios):
        seen.append(("finish", close(ios["prob"].to_numpy(), PROB), [k.name for k in ios], threading.get_ident()))

    network.set_start_callback(start)
    network.set_finish_callback(finish)
    run(network)
    me = threading.get_ident()
    assert seen == [("start", IMAGES.shape, True, me), ("finish", True, ["prob"], me)]
    network.wait()
    assert len(seen) == 3


def test_callbacks_before_load_and_the_last_one_counts():
    network = LiteNetwork()
    seen = []
    network.set_start_callback(lambda ios: seen.append("old"))
    network.set_start_callback(lambda ios: seen.append("start"))
    network.load(DIGITS)
    network.set_finish_callback(lambda ios: seen.append("finish"))
    run(network)
    network.set_start_callback(None)
    network.set_finish_callback(None)
    run(network)
    assert seen == ["start", "finish"]


def test_start_callback_may_change_inputs():
    network = loaded(ADD)
    network.set_start_callback(lambda ios: ios["a"].set_data_by_copy([10] * 6))
    assert add(network, 1, 2).max() == 12


def test_exceptions_in_callbacks_come_out():
    network = loaded(ADD)
    add(network, 1, 1)

    def fail(ios):
        raise KeyError("from the callback")

    network.set_start_callback(fail)
    network.get_io_tensor("a").set_data_by_copy([5] * 6)
    with pytest.raises(KeyError, match="from the callback"):
        network.forward()
    assert network.get_io_tensor("sum").to_numpy().max() == 2
    network.set_start_callback(None)
    network.set_finish_callback(fail)
    network.forward()
    with pytest.raises(KeyError, match="from the callback"):
        network.wait()
    assert network.get_io_tensor("sum").to_numpy().max() == 6


@pytest.mark.parametrize("name", ["set_start_callback", "set_finish_callback", "async_with_callback"])
def test_callbacks_must_be_callable(name):
    with pytest.raises(LiteTypeError):
        getattr(LiteNetwork(), name)(3)


@pytest.mark.parametrize(
    ("name", "callback", "told"),
    [
        ("set_start_callback", lambda: None, r"start_callback\(inputs\) is what is called, with a dict .* the inputs"),
        ("set_start_callback", lambda ios, more: None, r"<lambda>\(ios, more\) cannot be: missing .* 'more'"),
        ("set_finish_callback", lambda: None, r"finish_callback\(outputs\) is what is called, with a dict .* outputs"),
        ("set_finish_callback", lambda *, ios: None, r"<lambda>\(\*, ios\) cannot be"),
        ("async_with_callback", lambda ios: None, r"async_callback\(\) is what is called, without arguments; .*'ios'"),
    ],
)
def test_callbacks_must_take_what_they_are_called_with(name, callback, told):
    for network in (LiteNetwork(), loaded()):
        with pytest.raises(LiteTypeError, match=told):
            getattr(network, name)(callback)


def test_callbacks_may_be_all_that_can_be_called():
    class Seen(list):
        def __call__(self, ios, more=None):
            self.append(sorted(io.name for io in ios))

        def noted(self, *ios):
            self.append(len(ios))

    seen = Seen()
    network = loaded(ADD)
    for callback in (seen, seen.noted, functools.partial(seen.noted, 1), ctypes.CFUNCTYPE(None)(lambda: None), None):
        network.set_start_callback(callback)
        if not isinstance(callback, ctypes._CFuncPtr):
            add(network, 1, 1)
    assert seen == [["a", "b"], 1, 2]


def test_keys_and_values_outlive_callback_and_network():
    network = loaded()
    kept = []
    network.set_finish_callback(lambda ios: kept.extend(ios.items()))
    run(network)
    del network
    gc.collect()
    ((key, value),) = kept
    assert key.name == "prob" and close(value.to_numpy(), PROB)


@pytest.mark.parametrize("result", [None, 0, 1, "text", 1.5])
def test_results_of_callbacks_are_ignored(result):
    network = loaded(ADD)
    network.set_start_callback(lambda ios: result)
    network.set_finish_callback(lambda ios: result)
    assert add(network, 1, 2).max() == 3
    network.async_with_callback(lambda: result)
    assert add(network, 2, 2).max() == 4


def test_many_callbacks_on_many_networks():
    calls = []
    networks = [loaded(ADD) for _ in range(4)]
    for k, network in enumerate(networks):
        network.set_start_callback(lambda ios, k=k: calls.append(("s", k)))
        network.set_finish_callback(lambda ios, k=k: calls.append(("f", k)))
    gc.collect()
    for network in networks:
        add(network, 1, 2)
    assert calls == [(kind, k) for k in range(4) for kind in "sf"]
