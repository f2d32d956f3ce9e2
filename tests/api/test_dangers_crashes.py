"""Programs that make MegEngine Lite 1.13 crash, with one test or more for each.

Each fault has a number, used in names of tests. Each program runs in a process of its own.
"""

import gc

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, add, close, config, loaded, run
from support.loader_samples import add_record, to_bytes
from support.processes import isolated

from megengine_lite import (
    LiteConfig,
    LiteGlobal,
    LiteIO,
    LiteLayout,
    LiteNetwork,
    LiteTensor,
    LiteTensorConcat,
    get_model_io_info,
)
from megengine_lite._core.cpu.algorithms.cache import CACHE, serialize_cache
from megengine_lite.errors import (
    DecryptionError,
    LiteError,
    LiteIndexError,
    LiteTypeError,
    LiteValueError,
    ModelFormatError,
    ShapeError,
)

LARGE = (1 << 20, 4)
"""16 MiB of float32: the allocator gives so much back to the system at once, so that late readers crash."""


def junk() -> list[np.ndarray]:
    """Memory to take the place of what was just freed."""
    gc.collect()
    return [np.full(LARGE, -7, "float32"), *(np.full(size, -7, "float32") for size in (6, 60, 3600) * 20)]


# ---- 1: the array of get_data_by_share points into memory that is freed with its tensor -----------------------------


@isolated
def test_danger_01_view_is_read_after_its_tensor_is_gone():
    views = []
    for shape in (LARGE, (5, 5)):
        tensor = LiteTensor(LiteLayout(shape, "float32"))
        tensor.set_data_by_copy(np.full(shape, 3, "float32"))
        views.append(tensor.get_data_by_share())
        del tensor
    keep = junk()
    assert [(view.min(), view.max()) for view in views] == [(3, 3), (3, 3)]
    views[0][-1] = 4
    assert views[0].sum(dtype="float64") == 3 * views[0].size + 4
    del keep


# ---- 2: an IO tensor is only a number of the network's; with the network gone it is somebody else's -----------------


@isolated
def test_danger_02_io_tensor_is_used_after_its_network_is_gone():
    network = loaded(ADD)
    network.get_io_tensor("a").set_data_by_copy(np.full(LARGE, 1, "float32"))
    network.get_io_tensor("b").set_data_by_copy(np.full(LARGE, 2, "float32"))
    network.forward()
    network.wait()
    a, total = network.get_io_tensor("a"), network.get_io_tensor("sum")
    del network
    keep = junk()
    assert (a.to_numpy().max(), total.to_numpy().min()) == (1, 3)
    total.set_data_by_copy([8, 9], layout=LiteLayout([2], "float32"))
    assert total.to_numpy().tolist() == [8, 9]
    del keep


@isolated
def test_danger_02_old_handles_do_not_destroy_new_tensors():
    stale = []
    for _ in range(10):
        network = loaded()
        run(network, IMAGES[:3])
        stale += [network.get_io_tensor("data"), network.get_io_tensor("prob")]
        del network
    gc.collect()
    fresh = [LiteTensor(LiteLayout([3, 10], "float32")) for _ in range(50)]
    for tensor in fresh:
        tensor.set_data_by_copy(PROB[:3])
    alive = loaded()
    run(alive, IMAGES[:3])
    assert all(close(tensor.to_numpy(), PROB[:3]) for tensor in stale[1::2])
    stale.clear()
    gc.collect()
    assert all((tensor.to_numpy() == PROB[:3]).all() for tensor in fresh)
    assert close(run(alive), PROB)


# ---- 3: the object that get_io_tensor returns is all that keeps a shared array alive --------------------------------


@isolated
def test_danger_03_shared_arrays_that_only_the_network_knows():
    network = loaded(ADD, config(force_output_use_user_specified_memory=1))
    network.get_io_tensor("a").set_data_by_share(np.full(LARGE, 1, "float32"))
    network.get_io_tensor("b").set_data_by_share(np.full(LARGE, 2, "float32"))
    network.get_io_tensor("sum").set_data_by_share(np.zeros(LARGE, "float32"))
    keep = junk()
    for _ in range(2):
        network.forward()
        network.wait()
        result = network.get_io_tensor("sum").to_numpy()
        assert (result.shape, result.min(), result.max()) == (LARGE, 3, 3)
    del keep


@isolated
def test_danger_03_sharing_tensor_keeps_the_array_of_the_other():
    first, second = LiteTensor(), LiteTensor()
    first.set_data_by_share(np.full(LARGE, 5, "float32"))
    second.share_memory_with(first)
    first.set_data_by_share(np.zeros(LARGE, "float32"))
    keep = junk()
    assert (second.to_numpy() == 5).all()
    del keep


# ---- 4: the process has one place for a callback; setting another one frees the first -------------------------------


@isolated
def test_danger_04_start_and_finish_callback_of_one_network():
    network = loaded(ADD)
    seen = []
    network.set_start_callback(lambda ios: seen.append(ios["a"].to_numpy().max()))
    network.set_finish_callback(lambda ios: seen.append(ios["sum"].to_numpy().max()))
    gc.collect()
    for value in range(3):
        add(network, value, 10)
    assert seen == [0, 10, 1, 11, 2, 12]


@isolated
def test_danger_04_asynchronous_callbacks_of_two_networks():
    networks, seen = [loaded(), loaded()], []
    for k, network in enumerate(networks):
        network.async_with_callback(lambda k=k: seen.append(k))
    gc.collect()
    for _ in range(5):
        for k, network in enumerate(networks):
            assert close(run(network, IMAGES[k : k + 9]), PROB[k : k + 9])
    assert sorted(seen) == [0] * 5 + [1] * 5


# ---- 5: the names in a callback's argument are freed when it returns ------------------------------------------------


@isolated
def test_danger_05_keys_of_a_callback_are_used_later():
    kept = []
    network = loaded(API_MODELS / "multi_io.mge")
    network.set_start_callback(lambda ios: kept.extend(ios))
    network.set_finish_callback(lambda ios: kept.extend(ios))
    network.forward()
    network.wait()
    del network
    keep = junk()
    assert sorted(key.name for key in kept) == ["depth", "features", "image", "label", "logits", "winner"]
    assert len({hash(key) for key in kept}) == 6
    del keep


# ---- 6: all results of get_model_io_info share one memory for their names -------------------------------------------


@isolated
def test_danger_06_results_of_get_model_io_info_are_kept():
    sources = [API_MODELS / "multi_io.mge", DIGITS, ADD, API_MODELS / "cond_take.mge"] * 5
    infos = [get_model_io_info(source) for source in sources]
    keep = junk()
    names = [sorted(io.name for io in [*info.inputs, *info.outputs]) for info in infos]
    assert names[1::4] == [["data", "prob"]] * 5
    assert names[2::4] == [["a", "b", "sum"]] * 5
    assert names[0::4] == [["depth", "features", "image", "label", "logits", "winner"]] * 5
    assert names[3::4] == [names[3]] * 5
    assert infos[1].inputs[0].config_layout == LiteLayout([360, 1, 8, 8], "float32")
    del keep


# ---- 7: a negative dimension is taken for a huge one ----------------------------------------------------------------


@isolated
def test_danger_07_concat_along_a_negative_dimension():
    arrays = [np.arange(6, dtype="float32").reshape(2, 3) + k for k in range(3)]
    tensors = []
    for array in arrays:
        tensors.append(LiteTensor())
        tensors[-1].set_data_by_copy(array)
    for dim in (-1, -2):
        assert (LiteTensorConcat(tensors, dim).to_numpy() == np.concatenate(arrays, dim)).all()
    for dim in (-3, 2, -(2**31)):
        with pytest.raises(LiteError):
            LiteTensorConcat(tensors, dim)


# ---- 8: fill_zero writes before it looks whether there is anything --------------------------------------------------


@isolated
def test_danger_08_fill_zero_of_nothing():
    empty = LiteTensor(LiteLayout([0, 3], "int32"))
    empty.fill_zero()
    assert empty.layout.shapes == [0, 3] and empty.to_numpy().shape == (0, 3)
    whole = LiteTensor(LiteLayout([4, 3], "int32"))
    whole.set_data_by_copy(range(1, 13))
    for window in (whole.slice([4], [4]), whole.slice([2], [1]), whole.slice([0, 1], [4, 1])):
        window.fill_zero()
        assert window.nbytes == 0
    assert whole.to_numpy().ravel().tolist() == list(range(1, 13))


# ---- 9: a dump file that cannot be opened is found out by writing to it ---------------------------------------------


@isolated
def test_danger_09_text_dump_to_where_nothing_can_be_written(tmp_path):
    network = loaded(ADD)
    for path in (tmp_path / "none" / "dump.txt", tmp_path, "/proc/dump.txt"):
        with pytest.raises(LiteError, match=r"dump|written|directory"):
            network.io_txt_dump(str(path))
        assert add(network, 1, 2).max() == 3
    good = tmp_path / "dump.txt"
    network.io_txt_dump(str(good))
    add(network, 2, 2)
    assert "val: [4, 4, 4, 4, 4, ...]" in good.read_text()
    del network
    gc.collect()


# ---- 10: numbers where a backend or a name belongs are used as addresses --------------------------------------------


@isolated
def test_danger_10_backend_that_does_not_exist():
    for backend in (1, -1, 7, 2**31 - 1):
        made = LiteConfig()
        made.backend = backend
        with pytest.raises(LiteValueError, match="backend"):
            LiteNetwork(made)


@isolated
def test_danger_10_numbers_as_names():
    with pytest.raises(LiteTypeError, match="name"):
        LiteIO(3)
    io = LiteIO("data")
    with pytest.raises(AssertionError, match="name"):
        io.name = 3
    assert io.name == "data"
    network = loaded()
    for name in (3, 0, -1, None):
        with pytest.raises(LiteTypeError, match="name"):
            network.get_io_tensor(name)
        with pytest.raises(LiteError):
            network.get_discrete_tensor(name, 0)
    assert close(run(network), PROB)


# ---- 11: sizes in files are believed --------------------------------------------------------------------------------


@isolated
def test_danger_11_encrypted_models_that_are_too_short():
    for method in ("RC4_default", "SIMPLE_FAST_RC4_default", "AES_default"):
        made = LiteConfig()
        made.bare_model_cryption_name = method
        for size in (0, 1, 7, 8, 9):
            with pytest.raises((DecryptionError, ModelFormatError)):
                LiteNetwork(made).load(bytes(size))


@isolated
def test_danger_11_packages_that_are_a_tag_and_nothing_or_garbage(tmp_path):
    path = tmp_path / "model.lite"
    for tail in (b"", b"\0", b"\xff" * 64, bytes(64), b"garbage" * 100, np.random.default_rng(1).bytes(4096)):
        for tag in (b"packed_model", b"packed_modelmgelite"):
            path.write_bytes(tag + tail)
            for read in (LiteNetwork().load, get_model_io_info):
                with pytest.raises((ModelFormatError, DecryptionError)):
                    read(str(path))


@isolated
def test_danger_11_cache_whose_category_has_a_long_name(tmp_path):
    path = tmp_path / "cache"
    content = serialize_cache({b"c" * 70_000: {b"key": b"value"}, b"": {b"": b""}})
    path.write_bytes(content)
    LiteGlobal.set_persistent_cache(str(path))
    assert CACHE._categories == {b"c" * 70_000: {b"key": b"value"}, b"": {b"": b""}}
    for size in (4, 8, 300, 70_000, len(content) - 1):
        CACHE.clear()
        path.write_bytes(content[:size])
        LiteGlobal.set_persistent_cache(str(path), always_sync=True)
        assert CACHE._categories == {}
        network = LiteNetwork()
        network.set_network_algo_policy(2)
        network.load(DIGITS)
        assert close(run(network, IMAGES[:2]), PROB[:2])
        assert path.read_bytes() == content[:size]


# ---- 12: recording frees what later calls use -----------------------------------------------------------------------


def recorded(source) -> LiteNetwork:
    return loaded(source, config(comp_node_seq_record_level=2, var_sanity_check_first_run=0))


@isolated
def test_danger_12_recorded_network_with_a_shared_input_from_the_first_forward_on():
    network = recorded(DIGITS)
    for first in (0, 4, 8):
        network.get_io_tensor("data").set_data_by_share(IMAGES[first : first + 4].copy())
        network.forward()
        network.wait()
        assert close(network.get_io_tensor("prob").to_numpy(), PROB[first : first + 4])
    network.get_io_tensor("data").set_data_by_share(IMAGES[:5].copy())
    with pytest.raises(ShapeError, match="'data'"):
        network.forward()
    assert close(run(network, IMAGES[4:8]), PROB[4:8])


@isolated
def test_danger_12_recorded_network_is_asked_for_what_it_has_freed(tmp_path):
    network = recorded(to_bytes(add_record()))
    network.enable_profile_performance(str(tmp_path / "profile.json"))
    assert add(network, 1, 2).max() == 3
    assert (tmp_path / "profile.json").stat().st_size > 0
    for call in (
        lambda: network.set_network_algo_policy(2),
        lambda: network.set_network_algo_workspace_limit(0),
        lambda: network.get_static_memory_alloc_info(str(tmp_path / "memory")),
        lambda: LiteNetwork().share_weights_with(network),
    ):
        with pytest.raises(LiteError):
            call()
        assert add(network, 3, 4).max() == 7
    with pytest.raises(LiteIndexError):
        network.get_io_tensor("none")
