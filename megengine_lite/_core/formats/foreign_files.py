"""Recognizes files that are not models but are often taken for one, and says what to do with each."""

from __future__ import annotations

from collections.abc import Callable

from megengine_lite._core.formats.containers.packed import is_package
from megengine_lite._core.formats.mge.reader import is_model, is_wrapped
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite._records import record

HEAD = 4096
"""So many bytes from the begin of a file are examined."""

_TAR_AT = 257
_COMPRESSED_MAGICS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")
_TEXT = frozenset({*range(0x20, 0x7F), *b"\t\n\r\f"})


@record(frozen=True, slots=True)
class Foreign:
    """The kind of a file, as a noun with its article, and what to do with it; ``advice`` may be empty."""

    noun: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.noun}. {self.advice}" if self.advice else self.noun


_DUMP = (
    "A model is made in MegEngine: build the network, load the checkpoint into it, decorate a function that runs it "
    "with megengine.jit.trace(symbolic=True, capture_as_const=True), call it once, then call dump(file) of the function"
)
_UNPACK = "Unpack it, and give the model that is in it"

_MODEL = Foreign("a MegEngine model", "The command info shows what is in it")
_EMPTY = Foreign("an empty file", "It was not written or not copied completely: make or copy it again")
_LFS = Foreign("a pointer of Git LFS, not the file that it stands for", "Fetch that by: git lfs pull")
_PAGE = Foreign(
    "a web page", "The download gave a page, of an error or to log in, instead of the file: use a direct link to it"
)
_CHECKPOINT = Foreign("a pickle, as megengine.save writes checkpoints: it has weights and no network", _DUMP)
_TORCH = Foreign("a checkpoint of PyTorch", "Models of MegEngine and ONNX are read here; export the network to one")
_ONNX = Foreign("an ONNX model", "It is loaded as it is")
_OTHER_NETWORK = "Models of MegEngine and ONNX are read here; convert it to ONNX"
_TFLITE = Foreign("a TensorFlow Lite model", _OTHER_NETWORK)
_HDF5 = Foreign("an HDF5 file, as Keras writes models", _OTHER_NETWORK)
_OPENVINO = Foreign("the description of an OpenVINO model", _OTHER_NETWORK)
_NCNN = Foreign("the description of an ncnn model", _OTHER_NETWORK)
_GGUF = Foreign("a GGUF file, as llama.cpp reads", "Language models in this form run in llama.cpp, not here")
_SAFETENSORS = Foreign("a .safetensors file: it has weights and no network", _DUMP)
ARRAYS = Foreign("a .npz file of numpy's", "Arrays are inputs or stored outputs of a model")
NO_ARRAYS = Foreign("a .npz file of numpy's without arrays, or another empty archive", "Make it again")
ARRAY = Foreign("an array of numpy's (.npy)", "Arrays are inputs or stored outputs of a model")
_ZIP = Foreign("a zip archive", _UNPACK)
_TAR = Foreign("a tar archive", _UNPACK)
_COMPRESSED = Foreign("a compressed file", _UNPACK)
_LIBRARY = Foreign(
    "a program or a library", "Libraries of operators are opened by LiteGlobal.set_loader_lib_path, or --c-opr-lib"
)
_IMAGE = Foreign("an image", "Images are inputs of a model")
_CACHE = Foreign("a cache of algorithms", "It is read by LiteGlobal.set_persistent_cache, or --fast-run-algo-policy")
_JSON = Foreign("a JSON file", "Settings are put into a package beside a model: the command pack")
_TEXT_FILE = Foreign("a text file")

IF_ENCRYPTED = (
    "If it is encrypted, say how: by LiteConfig.bare_model_cryption_name, on the command line by --decrypt METHOD "
    "--key KEY"
)
"""What an error says of a file that is not recognised."""


def _is_model(head: bytes) -> bool:
    cursor = Cursor(head)
    return is_model(cursor) or is_wrapped(cursor) or is_package(cursor)


def _is_page(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--"))


def _is_openvino(head: bytes) -> bool:
    return _is_page(head) and b"<net " in head and b"<layers" in head


def _is_safetensors(head: bytes) -> bool:
    # The length of a JSON object, as eight bytes, then the object. It is never as long as 4 GB.
    return head[4:8] == bytes(4) and head[8:].lstrip(b" ").startswith(b'{"')


def _is_pickle(head: bytes) -> bool:
    # From protocol 2 on the first bytes name the protocol; then comes the opcode of a frame, container, name or text.
    return len(head) > 3 and head[0] == 0x80 and head[1] in range(2, 6) and head[2] in b"\x95}])(cX\x8c\x8aJKMN"


def looks_like_onnx(head: bytes) -> bool:
    """Whether these are the first bytes of an ONNX model as programs write it."""
    # A message of Protocol Buffers: the version of the format, then what stands before the graph, the graph, or
    # operator sets. The size of a file, with which MegEngine's models of the second generation begin, may be the same
    # bytes.
    begins = len(head) > 3 and head[0] == 0x08 and 0 < head[1] < 0x80 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"
    return begins and not _is_model(head)


def _is_cache(head: bytes) -> bool:
    return head[3:4] == b"\0" and (head[8:24].startswith((b"megengine_lite:r", b"profile:")) or head[8:13] == b"plat=")


def _is_text(head: bytes) -> bool:
    return _TEXT.issuperset(head)


_KINDS: tuple[tuple[Callable[[bytes], bool], Foreign], ...] = (
    (lambda head: not head, _EMPTY),
    (_is_model, _MODEL),
    (lambda head: head.startswith(b"version https://git-lfs."), _LFS),
    (_is_openvino, _OPENVINO),
    (_is_page, _PAGE),
    (lambda head: _is_pickle(head) and b"torch" in head, _TORCH),
    (_is_pickle, _CHECKPOINT),
    (lambda head: head.startswith(b"PK\3\4") and b"data.pkl" in head, _TORCH),
    (lambda head: head.startswith(b"PK\3\4") and b".npy" in head, ARRAYS),
    (lambda head: head.startswith(b"PK\5\6"), NO_ARRAYS),
    (lambda head: head.startswith(b"PK\3\4"), _ZIP),
    (lambda head: head[_TAR_AT:].startswith(b"ustar"), _TAR),
    (lambda head: head.startswith(_COMPRESSED_MAGICS), _COMPRESSED),
    (lambda head: head.startswith(b"\x93NUMPY"), ARRAY),
    (lambda head: head.startswith((b"\x7fELF", b"MZ\x90", b"\xcf\xfa\xed\xfe")), _LIBRARY),
    (lambda head: head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")), _IMAGE),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", _IMAGE),
    (lambda head: head[4:8] == b"TFL3", _TFLITE),
    (lambda head: head.startswith(b"GGUF"), _GGUF),
    (lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"), _HDF5),
    (lambda head: head.startswith(b"7767517\n"), _NCNN),
    (_is_safetensors, _SAFETENSORS),
    (_is_cache, _CACHE),
    (looks_like_onnx, _ONNX),
    (lambda head: _is_text(head) and head.lstrip().startswith((b"{", b"[")), _JSON),
    (_is_text, _TEXT_FILE),
)


def recognise(content: bytes | memoryview) -> Foreign | None:
    """The kind of a file, from its content or the first bytes of it; None if it is not recognized."""
    head = bytes(content[:HEAD])
    return next((kind for matches, kind in _KINDS if matches(head)), None)
