"""LiteNetwork: what can be loaded and from where, information without a network, pickling."""

import gc
import io
import logging
import pickle

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, add, close, loaded, packed, run

from megengine_lite import (
    LiteConfig,
    LiteDeviceType,
    LiteIO,
    LiteLayout,
    LiteNetwork,
    LiteNetworkIO,
    get_model_io_info,
)
from megengine_lite._core.formats.containers import cryption
from megengine_lite.errors import LiteError, LiteTypeError, LiteValueError, ModelFormatError
from megengine_lite.log import logger

pytestmark = pytest.mark.filterwarnings("ignore:the model is encrypted with the default key")


# ---- loading --------------------------------------------------------------------------------------------------------


class _Path:
    def __fspath__(self):
        return str(DIGITS)


@pytest.mark.parametrize(
    "source",
    [str(DIGITS), DIGITS, _Path(), f"file://{DIGITS}", DIGITS.read_bytes(), bytearray(DIGITS.read_bytes())],
    ids=["str", "Path", "PathLike", "URL", "bytes", "bytearray"],
)
def test_load_from(source):
    assert close(run(loaded(source)), PROB)


def test_load_from_binary_files():
    with open(DIGITS, "rb") as file:
        assert close(run(loaded(file)), PROB)
    with open(DIGITS, "rb", buffering=0) as file:
        assert close(run(loaded(file)), PROB)
    stream = io.BytesIO(b"head" + DIGITS.read_bytes())
    stream.seek(4)
    assert close(run(loaded(stream)), PROB)


def test_load_from_a_buffer_that_changes_later():
    content = bytearray(DIGITS.read_bytes())
    network = loaded(content)
    content[:] = bytes(len(content))
    assert close(run(network), PROB)


class _Views:
    """A file that gives views of memory."""

    def __init__(self, view):
        self.view = view

    def read(self):
        return self.view


@pytest.mark.parametrize("wrap", [lambda view: view, _Views], ids=["buffer", "file"])
def test_load_from_bytes_that_lie_apart(wrap):
    content = np.frombuffer(DIGITS.read_bytes(), np.uint8)
    assert close(run(loaded(wrap(memoryview(content)))), PROB)
    released = memoryview(b"abc")
    released.release()
    with pytest.raises(LiteValueError, match="gone"):
        LiteNetwork().load(wrap(released))
    # The copy of the last one would have 4 TB, which Python may get as long as nobody writes there.
    for view in (np.repeat(content, 2)[::2], content[::-1], np.broadcast_to(np.float32(1), (1 << 40,))):
        with pytest.raises(LiteValueError, match="together"):
            LiteNetwork().load(wrap(memoryview(view)))


@pytest.mark.parametrize("source", [None, 3, ["a"], io.StringIO("text")])
def test_load_from_other_things(source):
    with pytest.raises(LiteTypeError):
        LiteNetwork().load(source)


def test_load_from_elsewhere(tmp_path):
    with pytest.raises(LiteValueError, match="s3"):
        LiteNetwork().load("s3://bucket/model.mge")
    with pytest.raises(FileNotFoundError) as caught:
        LiteNetwork().load(tmp_path / "none.mge")
    assert isinstance(caught.value, LiteError)
    with pytest.raises(OSError):
        LiteNetwork().load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"abc", bytes(100), b"text" * 50, DIGITS.read_bytes()[:1000]])
def test_load_of_what_is_no_model(content, tmp_path):
    path = tmp_path / "model.mge"
    path.write_bytes(content)
    for source in (content, path):
        network = LiteNetwork()
        with pytest.raises(ModelFormatError):
            network.load(source)
        network.load(DIGITS)
        assert close(run(network, IMAGES[:2]), PROB[:2])


def test_second_load():
    network = loaded()
    with pytest.raises(LiteError, match="new network"):
        network.load(DIGITS)
    assert close(run(network), PROB)


def test_load_after_sharing_weights():
    network = LiteNetwork()
    network.share_weights_with(loaded())
    with pytest.raises(LiteError, match="new network"):
        network.load(DIGITS)
    assert close(run(network), PROB)


def test_nothing_hangs_on_model_bytes():
    network = loaded(DIGITS.read_bytes())
    network.model_bytes = None
    gc.collect()
    assert close(run(network), PROB)


def test_load_from_a_text_file():
    with open(DIGITS) as file, pytest.raises(LiteTypeError, match="'rb'"):
        LiteNetwork().load(file)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file://host{}", "is a file of the host 'host'; a path on this one begins file:///"),
        ("file://user@localhost{}", "is a file of the host 'user@localhost'"),
        ("file://{}?part=1", r"\? is %3F and # is %23"),
        ("file://{}#part", r"\? is %3F and # is %23"),
    ],
)
def test_what_a_url_says_beside_a_path_is_not_passed_over(url, message):
    with pytest.raises(LiteValueError, match=message):
        LiteNetwork().load(url.format(DIGITS))


def test_urls_of_this_host_and_of_names_with_marks(tmp_path):
    path = tmp_path / "50% #1?.mge"
    path.write_bytes(ADD)
    for url in (path.as_uri(), path.as_uri().replace("file://", "file://localhost")):
        network = LiteNetwork()
        network.load(url)
        assert add(network, 1, 2).max() == 3


@pytest.mark.parametrize("path", ["a\0b", "file:///a%00b"])
def test_load_from_a_path_that_cannot_be(path):
    with pytest.raises(LiteValueError, match="null character"):
        LiteNetwork().load(path)


@pytest.mark.parametrize(
    ("information", "words"),
    [({"version": "1.14.0"}, "release 1.14.0"), ({"version": "2.0.0"}, "release 2.0.0"), ({"backend": "RK"}, "'RK'")],
)
def test_package_that_asks_for_what_is_not_known_runs_and_is_logged(information, words, caplog):
    logger.setLevel(logging.WARNING)
    try:
        network = loaded(packed(information=information))
        loaded(packed())
    finally:
        logger.setLevel(logging.ERROR)
    assert [words in r.getMessage() for r in caplog.records] == [True]
    assert add(network, 1, 2).max() == 3


# ---- information without a network --------------------------------------------------------------------------------


def test_model_io_info():
    infos = [get_model_io_info(str(API_MODELS / "multi_io.mge")) for _ in range(3)]
    get_model_io_info(DIGITS.read_bytes())
    for info in infos:
        assert [(i.name, i.config_layout) for i in info.inputs] == [
            ("depth", LiteLayout([2, 1, 24, 24], "float32")),
            ("image", LiteLayout([2, 3, 24, 24], "uint8")),
            ("label", LiteLayout([2], "int32")),
        ]
        assert [(o.name, o.config_layout) for o in info.outputs] == [
            ("logits", LiteLayout([2, 4], "float32")),
            ("features", LiteLayout([2, 12, 12, 12], "float32")),
            ("winner", LiteLayout([2], "int32")),
        ]
    outputs = [o.config_layout for o in get_model_io_info(API_MODELS / "cond_take.mge").outputs]
    assert [(o.ndim, o.dtype) for o in outputs] == [(0, np.float32), (0, np.int32)]


def test_model_io_info_of_what_is_none(tmp_path):
    with pytest.raises(ModelFormatError):
        get_model_io_info(b"nothing")
    with pytest.raises(FileNotFoundError):
        get_model_io_info(tmp_path / "none")
    # needs no device
    made = LiteConfig(LiteDeviceType.LITE_CUDA)
    assert get_model_io_info(DIGITS, made).inputs[0].name == "data"


def test_model_io_info_with_a_configuration_of_another_type():
    with pytest.raises(LiteTypeError, match="LiteConfig"):
        get_model_io_info(DIGITS, "AES_default")


# ---- pickling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [DIGITS, DIGITS.read_bytes()], ids=["path", "bytes"])
def test_pickle(source):
    network = loaded(source, io=LiteNetworkIO([LiteIO("data", layout=[2, 1, 8, 8])]), threads_number=2, stream_id=4)
    twin = pickle.loads(pickle.dumps(network))
    assert (twin.threads_number, twin.stream_id) == (2, 4)
    assert twin.get_io_tensor("data").layout.shapes == [2, 1, 8, 8]
    assert close(run(twin), PROB)
    assert repr(twin) == repr(network)


def test_pickle_before_load():
    network = LiteNetwork()
    network.enable_cpu_inplace_mode()
    twin = pickle.loads(pickle.dumps(network))
    assert twin.is_cpu_inplace_mode()
    twin.load(DIGITS)
    assert close(run(twin), PROB)


def test_pickle_of_a_network_that_shares_an_encrypted_package():
    information = {"device": {"number_threads": 3}}
    made = LiteConfig()
    made.bare_model_cryption_name = "RC4_default"
    for source in (
        loaded(bytes(cryption.encrypt("RC4_default", ADD)), made),
        loaded(packed(information=information, method="AES_default")),
    ):
        network = LiteNetwork()
        network.share_weights_with(source)
        made.bare_model_cryption_name = ""  # what the source was loaded with counts
        for twin in (network, pickle.loads(pickle.dumps(network))):
            assert twin.threads_number == 1
            assert add(twin, 1, 2).max() == 3
        assert add(pickle.loads(pickle.dumps(source)), 1, 2).max() == 3
