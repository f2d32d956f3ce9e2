"""Packages that are run: their caches, their settings, decryption of all kinds."""

import json

import numpy as np
import pytest
from support.api_samples import ADD, DIGITS, PROB, add, loaded, run

from megengine_lite import (
    LiteAlgoSelectStrategy,
    LiteConfig,
    LiteGlobal,
    LiteNetwork,
    decryption_func,
    get_model_io_info,
)
from megengine_lite._core.cpu.algorithms import fast_run
from megengine_lite._core.cpu.algorithms.cache import CACHE, parse_cache, serialize_cache
from megengine_lite._core.cpu.steps import Step
from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.formats.containers.packed import Package, write_package
from megengine_lite.errors import DecryptionError, ModelFormatError

ORIGINAL = ["AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"]
OWN_KEYS = {"AES_default": bytes(range(100, 132)), "RC4_default": b"r" * 16, "SIMPLE_FAST_RC4_default": b"s" * 16}
INFORMATION = {
    "valid": True,
    "name": "net",
    "version": "1.13.0",
    "device": {"type": "CPU", "number_threads": 2},
    "options": {"graph_opt_level": 0, "var_sanity_check_first_run": False},
    "IO": {"outputs": [{"name": "prob", "io_type": "value"}]},
}
pytestmark = pytest.mark.filterwarnings("ignore:the model is encrypted with the default key")


@pytest.fixture
def methods(monkeypatch):
    """The table of methods, restored afterwards."""
    from megengine_lite._records import replace

    monkeypatch.setattr(cryption, "METHODS", {k: replace(m) for k, m in cryption.METHODS.items()})
    return cryption.METHODS


@pytest.fixture
def cache():
    CACHE.clear()
    yield CACHE
    CACHE.clear()


def encrypted(method: str, content: bytes, key: bytes = b"") -> bytes:
    return bytes(cryption.encrypt(method, content, key))


def package(model: bytes, information: bytes | None = None, **fields) -> bytes:
    content = json.dumps(INFORMATION).encode() if information is None else information
    return b"".join(map(bytes, write_package(Package("net", model, information=content, **fields))))


# ---- encryption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("information_method", ["NONE", *ORIGINAL])
@pytest.mark.parametrize("model_method", ["NONE", *ORIGINAL])
def test_packages_under_own_keys_run(methods, model_method, information_method):
    content = package(
        encrypted(model_method, DIGITS.read_bytes(), OWN_KEYS.get(model_method, b"")),
        encrypted(information_method, json.dumps(INFORMATION).encode(), OWN_KEYS.get(information_method, b"")),
        model_cryption=model_method,
        information_cryption=information_method,
        algorithm_cache=bytes(4),
        is_fast_run_cache=True,
    )
    if {model_method, information_method} != {"NONE"}:
        with pytest.raises((DecryptionError, ModelFormatError)):
            loaded(content)
    for name, key in OWN_KEYS.items():
        LiteGlobal.update_decryption_key(name, key)
    network = loaded(content)
    assert network.threads_number == 2  # the information was read
    assert np.abs(run(network) - PROB).max() < 1e-5


def mirrored(content: bytes, key: int = 15) -> bytes:
    return (np.frombuffer(content, np.uint8) ^ key).tobytes()


def in_two_calls(in_arr, key_arr, out_arr):
    if out_arr is None:
        return in_arr.size
    out_arr[:] = in_arr ^ key_arr[0]
    return out_arr.size


def giving_bytes(in_arr, key_arr, out_arr):
    return (in_arr ^ key_arr[0]).tobytes()


@pytest.mark.parametrize(
    "function",
    [in_two_calls, decryption_func(in_two_calls), giving_bytes, decryption_func(giving_bytes)],
    ids=["plain", "decorated", "plain, gives bytes", "decorated, gives bytes"],
)
def test_packages_under_registered_methods_run(methods, function):
    LiteGlobal.register_decryption_and_key("mirror", function, [15])
    for model_method, information_method in (("mirror", "mirror"), ("mirror", "NONE"), ("NONE", "mirror")):
        model, information = DIGITS.read_bytes(), json.dumps(INFORMATION).encode()
        content = package(
            mirrored(model) if model_method == "mirror" else model,
            mirrored(information) if information_method == "mirror" else information,
            model_cryption=model_method,
            information_cryption=information_method,
        )
        network = loaded(content)
        assert network.threads_number == 2
        assert np.abs(run(network) - PROB).max() < 1e-5
        assert [o.name for o in get_model_io_info(content).outputs] == ["prob"]


def test_key_of_a_registered_method_changes_between_packages(methods):
    LiteGlobal.register_decryption_and_key("mirror", in_two_calls, [15])
    information = json.dumps(INFORMATION).encode()
    for key in (15, 77):
        LiteGlobal.update_decryption_key("mirror", [key])
        content = package(mirrored(ADD, key), information, model_cryption="mirror")
        assert add(loaded(content), 1, 2).max() == 3
    with pytest.raises(DecryptionError, match="'mirror'"):
        loaded(package(mirrored(ADD, 15), information, model_cryption="mirror"))


@pytest.mark.parametrize("part", ["model_cryption", "information_cryption"])
def test_error_of_a_registered_method_is_the_cause_of_the_error_of_load(methods, part):
    def no_licence(in_arr, key_arr, out_arr):
        raise PermissionError("no licence")

    LiteGlobal.register_decryption_and_key("licensed", no_licence, b"k")
    with pytest.raises(DecryptionError, match="no_licence raised PermissionError: no licence") as caught:
        loaded(package(ADD, **{part: "licensed"}))
    assert type(caught.value.__cause__) is PermissionError


def test_gcm_protects_models_and_information_of_packages(methods):
    key = bytes(range(32))
    content = package(
        encrypted("AES_256_GCM", DIGITS.read_bytes(), key),
        encrypted("AES_256_GCM", json.dumps(INFORMATION).encode(), key),
        model_cryption="AES_256_GCM",
        information_cryption="AES_256_GCM",
    )
    with pytest.raises(DecryptionError, match="key of 32 bytes"):
        loaded(content)
    LiteGlobal.update_decryption_key("AES_256_GCM", key)
    assert np.abs(run(loaded(content)) - PROB).max() < 1e-5
    LiteGlobal.update_decryption_key("AES_256_GCM", b"x" * 32)
    with pytest.raises(DecryptionError, match="the key is wrong or the file was changed"):
        loaded(content)


# ---- caches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def measurements(monkeypatch):
    """The algorithms that are measured."""
    done: list[str] = []
    measure = fast_run.measure

    def count(ctx, node, algorithm, emit):
        done.append(algorithm.name)
        return measure(ctx, node, algorithm, emit)

    monkeypatch.setattr(fast_run, "measure", count)
    return done


def run_measured(source) -> np.ndarray:
    network = loaded(source, LiteConfig())
    network.set_network_algo_policy(LiteAlgoSelectStrategy.LITE_ALGO_PROFILE)
    return run(network)


def test_cache_in_a_package_saves_measurements(cache, measurements, tmp_path):
    assert np.abs(run_measured(DIGITS) - PROB).max() < 1e-5
    needed = len(measurements)
    assert needed > 2
    LiteGlobal.dump_persistent_cache(tmp_path / "cache")
    content = (tmp_path / "cache").read_bytes()
    assert parse_cache(content)
    plain = json.dumps({**INFORMATION, "options": {}, "device": {}}).encode()
    for packed, expected in (
        (package(DIGITS.read_bytes(), plain, algorithm_cache=content, is_fast_run_cache=True), 0),
        (package(DIGITS.read_bytes(), plain, algorithm_cache=content, is_fast_run_cache=False), needed),
        (package(DIGITS.read_bytes(), plain), needed),
    ):
        CACHE.clear()
        measurements.clear()
        assert np.abs(run_measured(packed) - PROB).max() < 1e-5
        assert len(measurements) == expected


def _rewritten(content: bytes, change) -> bytes:
    """A cache whose timings, a list for each problem, are what ``change`` makes of them."""
    categories = {
        name: {key: json.dumps(change(json.loads(value))).encode() for key, value in entries.items()}
        for name, entries in parse_cache(content).items()
    }
    return serialize_cache(categories)


def _kernels(network: LiteNetwork) -> list[str]:
    return [s.kernel.name for plan in network._engine.session.plans() for s in plan.steps if isinstance(s, Step)]


def _measured_network(source, share_with: LiteNetwork | None = None) -> LiteNetwork:
    network = LiteNetwork()
    network.set_network_algo_policy(LiteAlgoSelectStrategy.LITE_ALGO_PROFILE)
    if share_with is None:
        network.load(source)
    else:
        network.share_weights_with(share_with)
    assert np.abs(run(network) - PROB).max() < 1e-5
    return network


@pytest.fixture
def slow_package(cache, measurements):
    """The digits model with a cache that chooses the plainest algorithms."""
    run_measured(DIGITS)
    content = _rewritten(CACHE.content(), lambda found: [[n, t + (n != "gemm_naive_f32"), 0] for n, t, _ in found])
    CACHE.clear()
    measurements.clear()
    information = json.dumps({**INFORMATION, "options": {}, "device": {}}).encode()
    return package(DIGITS.read_bytes(), information, algorithm_cache=content, is_fast_run_cache=True)


def test_cache_of_a_package_stays_with_its_network(slow_package, measurements):
    network = _measured_network(slow_package)
    slow = _kernels(network)
    assert "gemm_naive_f32" in slow and not measurements
    assert CACHE.content() == bytes(4)
    shared = _measured_network(None, network)
    assert _kernels(shared) == slow and not measurements
    other = _measured_network(DIGITS)
    assert len(measurements) > 2
    assert _kernels(other) != slow
    shared.share_weights_with(other)
    run(shared)
    assert _kernels(shared) == _kernels(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: [["no_such_algorithm", 0.0, 0]],
        lambda found: [],
        lambda found: [[name, float("nan"), 0] for name, *_ in found],
        lambda found: [[name, 0.0, float("inf")] for name, *_ in found],
        lambda found: [["conv_direct_int8", 0.0, 0], ["gemm_int8", 0.0, 0]],
        lambda found: [[f"{name}\x1b[2J", 0.0, 0] for name, *_ in found],
    ],
)
@pytest.mark.parametrize("where", ["package", "process"])
def test_cache_that_names_nothing_that_applies_is_measured_anew(cache, measurements, change, where):
    run_measured(DIGITS)
    needed, content = len(measurements), _rewritten(CACHE.content(), change)
    CACHE.clear()
    measurements.clear()
    source = DIGITS
    if where == "package":
        information = json.dumps({**INFORMATION, "options": {}, "device": {}}).encode()
        source = package(DIGITS.read_bytes(), information, algorithm_cache=content, is_fast_run_cache=True)
    else:
        CACHE.merge(content)
    _measured_network(source)
    assert len(measurements) == needed


def test_cache_entry_with_an_algorithm_that_does_not_apply_chooses_the_best_of_the_others(cache, measurements):
    run_measured(DIGITS)
    content = _rewritten(
        CACHE.content(),
        lambda found: [["conv_direct_int8", 0.0, 0], *([n, 1 + t + (n != "gemm_naive_f32"), 0] for n, t, _ in found)],
    )
    CACHE.clear()
    measurements.clear()
    CACHE.merge(content)
    kernels = _kernels(_measured_network(DIGITS))
    assert "gemm_naive_f32" in kernels and "conv_direct_int8" not in kernels and not measurements


def test_cache_file_saves_measurements(cache, measurements, tmp_path):
    LiteGlobal.set_persistent_cache(tmp_path / "cache", always_sync=True)
    run_measured(DIGITS)
    assert len(measurements) > 2
    CACHE.clear()
    measurements.clear()
    LiteGlobal.set_persistent_cache(tmp_path / "cache")
    run_measured(DIGITS)
    assert measurements == []
