"""The settings in a package, which are JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from megengine_lite._records import field, record
from megengine_lite.errors import ModelFormatError

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 100
_DEVICES = ("CPU", "CUDA", "ATLAS", "CAMBRICON", "NPU")
_DTYPES = ("float32", "float16", "int32", "int16", "int8", "uint8")
_IO_TYPES = ("value", "shape")
_SHAPE_KEYS = ("dim0", "dim1", "dim2", "dim3")
BOOLEAN_OPTIONS = (
    "weight_preprocess",
    "fuse_preprocess",
    "fake_next_exec",
    "var_sanity_check_first_run",
    "const_shape",
    "force_dynamic_alloc",
    "force_output_dynamic_alloc",
    "no_profiling_on_shape_change",
)
INTEGER_OPTIONS = ("jit_level", "comp_node_seq_record_level", "graph_opt_level", "async_exec_level")


@record(slots=True)
class IOInformation:
    """What the JSON says about one input or output; None for what is not given."""

    name: str
    is_host: bool | None = None
    io_type: str | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


@record(slots=True)
class Information:
    """Valid settings of a package. They take precedence over those of the caller.

    Attributes
    ----------
    version
        Release of the library that the package was made for, (major, minor, patch).
    has_compression
        Values of tensors are compressed.
    device_type
        ``"CPU"`` and so on, None if not given.
    device_id, number_threads, enable_inplace_model, use_tensorrt
        None if not given.
    options
        Names of network options and their values.
    extra_info
        JSON text for the application, None if there is none.
    """

    name: str
    version: tuple[int, int, int]
    has_compression: bool = False
    backend: str = "MGE"
    device_type: str | None = None
    device_id: int | None = None
    number_threads: int | None = None
    enable_inplace_model: bool | None = None
    use_tensorrt: bool | None = None
    options: dict[str, int | bool] = field(default_factory=dict)
    inputs: list[IOInformation] = field(default_factory=list)
    outputs: list[IOInformation] = field(default_factory=list)
    extra_info: str | None = None


class _Object:
    """A JSON object that checks the type of each member that is read."""

    def __init__(self, members: Any, place: str, what: str):
        self.place = place
        self.what = what
        if not isinstance(members, dict):
            raise self.error("must be an object")
        self._members: dict[str, Any] = members

    def error(self, message: str) -> ModelFormatError:
        return ModelFormatError(f"{self.what}: information of the package: {self.place} {message}")

    def __contains__(self, key: str) -> bool:
        return key in self._members

    def get(self, key: str, kind: type, among: tuple[str, ...] = ()) -> Any:
        """The member, None if there is none."""
        value = self._members.get(key)
        if value is None:
            return None
        # In Python a bool is an int; in JSON it is not.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"has {key} = {value!r:.80}, {kind.__name__} is expected")
        if among and value not in among:
            raise self.error(f"has {key} = {value!r:.80}; possible are {', '.join(among)}")
        return value

    def child(self, key: str) -> _Object:
        return _Object(self._members.get(key) or {}, f"{self.place} {key}", self.what)


def parse_information(content: bytes, model_name: str, what: str = "model") -> Information | None:
    """Reads the JSON of a package.

    Parameters
    ----------
    content
        The JSON text; zero bytes and what follows them are cut off (encryption pads).
    model_name
        Name in the package's header.
    what
        Name of the model for messages.

    Returns
    -------
    Information or None
        None if the JSON says that it is not valid.
    """
    if len(content) > _MAX_BYTES:
        raise ModelFormatError(f"{what}: the information of the package has {len(content)} bytes, at most {_MAX_BYTES}")
    import json  # packages are few

    try:
        decoder = json.JSONDecoder()
        parsed, _ = decoder.raw_decode(content.decode("utf-8", "replace").lstrip())
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{what}: the information of the package is no JSON: {error}") from None
    _check_depth(parsed, what)
    root = _Object(parsed, "the JSON", what)
    if not root.get("valid", bool):
        return None
    name = root.get("name", str)
    if name != model_name:
        raise root.error(f"is for the model {name!r:.80}, the package holds {model_name!r:.80}")
    version = re.fullmatch(r"(\d{1,5})\.(\d{1,5})\.(\d{1,5})", root.get("version", str) or "")
    if version is None:
        raise root.error("needs a version of the form 1.2.3")
    device, io = root.child("device"), root.child("IO")
    return Information(
        name=name,
        version=(int(version[1]), int(version[2]), int(version[3])),
        has_compression=bool(root.get("has_compression", bool)),
        backend=root.get("backend", str) or "MGE",
        device_type=device.get("type", str, _DEVICES),
        device_id=device.get("device_id", int),
        number_threads=device.get("number_threads", int),
        enable_inplace_model=device.get("enable_inplace_model", bool),
        use_tensorrt=device.get("use_tensorrt", bool),
        options=_options(root.child("options")),
        inputs=_ios(io, "inputs"),
        outputs=_ios(io, "outputs"),
        extra_info=json.dumps(parsed["extra_info"]) if "extra_info" in root else None,
    )


def _check_depth(parsed: Any, what: str) -> None:
    """Raises if lists and objects are nested so deeply that writing them again could overflow the stack."""
    level = [parsed]
    for _ in range(_MAX_DEPTH):
        inner = [m for value in level if isinstance(value, list | dict) for m in _members(value)]
        if not inner:
            return
        level = inner
    raise ModelFormatError(f"{what}: the information of the package is nested deeper than {_MAX_DEPTH} levels")


def _members(value: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _options(stored: _Object) -> dict[str, int | bool]:
    found = {name: stored.get(name, bool) for name in BOOLEAN_OPTIONS}
    found |= {name: stored.get(name, int) for name in INTEGER_OPTIONS}
    return {name: value for name, value in found.items() if value is not None}


def _ios(io: _Object, key: str) -> list[IOInformation]:
    found = []
    for i, members in enumerate(io.get(key, list) or ()):
        entry = _Object(members, f"IO {key}[{i}]", io.what)
        name = entry.get("name", str)
        if name is None:
            raise entry.error("needs a name")
        dims = entry.child("shape")
        shape = [dims.get(k, int) for k in _SHAPE_KEYS if k in dims]
        if any(d is None or d < 0 for d in shape):
            raise dims.error("has a dimension below zero")
        while shape and shape[-1] == 0:  # the manual of the original writes dimensions that are not there so
            shape.pop()
        found.append(
            IOInformation(
                name,
                entry.get("is_host", bool),
                entry.get("io_type", str, _IO_TYPES),
                entry.get("dtype", str, _DTYPES),
                tuple(shape) or None,
            )
        )
    return found
