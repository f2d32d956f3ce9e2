"""Makes a model from the argument of ``load``, and applies the settings of a package."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from megengine_lite._api.layout import LiteLayout
from megengine_lite._api.network_io import LiteIO
from megengine_lite._api.options import LiteConfig
from megengine_lite._api.run_settings import RunSettings
from megengine_lite._core.runtime.devices import get_device
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.files import file_stamp, to_path
from megengine_lite._core.system.late_import import late_import
from megengine_lite.base import version
from megengine_lite.errors import DeviceError, LiteError, LiteTypeError, LiteValueError, ShapeError, brief, os_error
from megengine_lite.log import logger, warn
from megengine_lite.struct import LiteDeviceType, LiteIOType

if TYPE_CHECKING:
    from megengine_lite._core.device.interface import Device
    from megengine_lite._core.formats.containers.information import Information, IOInformation
    from megengine_lite._core.formats.containers.packed import Package
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.formats.mge.records import ModelRecord
    from megengine_lite._core.ir.graph import ConstantPool
    from megengine_lite._core.session_config import Measurements

_API_VERSION = tuple(map(int, version.split(".")))


def to_source(file: Any) -> str | bytes | memoryview:
    """A path or the bytes of a model, from anything that ``load`` takes.

    Raises
    ------
    LiteTypeError, LiteValueError
        Neither path, nor ``file://`` URL, nor binary file, nor bytes.
    """
    if isinstance(file, os.PathLike):
        return to_path(file)
    if isinstance(file, str):
        scheme, separator, _ = file.partition("://")
        if not separator or not scheme.isalnum():
            return to_path(file)
        if scheme != "file":
            raise LiteValueError(f"{scheme}:// is not read here; download the model, then load the file or its bytes")
        from urllib.parse import unquote, urlsplit  # takes longer to import than the rest of this module

        parts = urlsplit(file)
        if parts.netloc not in ("", "localhost"):
            raise LiteValueError(
                f"{file} is a file of the host {brief(parts.netloc)}; a path on this one begins file:///"
            )
        if parts.query or parts.fragment:
            raise LiteValueError(f"{file} is not only a path; in names of files, ? is %3F and # is %23")
        return to_path(unquote(parts.path))
    if isinstance(file, bytes):
        return file
    if isinstance(file, io.TextIOBase):
        raise LiteTypeError("a model is read from binary files, this one is a text file; open it with mode 'rb'")
    if hasattr(file, "read"):
        try:
            content = file.read()
        except OSError as error:
            raise os_error(error, f"the model cannot be read: {error.strerror or error}", "") from error
        except ValueError as error:  # a file that is closed
            raise LiteValueError(f"the model cannot be read: {error}") from error
        except (LiteError, MemoryError):
            raise
        except Exception as error:  # of a class of the caller's
            raise LiteError(f"the model cannot be read: read() raised {type(error).__name__}: {error}") from error
        if not isinstance(content, bytes | bytearray | memoryview):
            raise LiteTypeError(f"a model is read from binary files, this one gives {type(content).__name__}")
        return _copy(content)
    try:
        return _copy(file)
    except TypeError:
        raise LiteTypeError(
            f"a model is loaded from a path, a binary file or bytes, not from {type(file).__name__}"
        ) from None


def name_of(source: str | bytes | memoryview | None) -> tuple[str, int | None]:
    """What a report calls a model, and the size of its file or of its bytes."""
    if isinstance(source, str):
        try:
            return os.path.basename(source), os.path.getsize(source)
        except OSError:  # it has gone since it was read
            return os.path.basename(source), None
    return "model", None if source is None else len(source)


def _copy(content: Any) -> bytes:
    """The bytes of a buffer, which the caller may change later."""
    try:
        view = memoryview(content)
        contiguous = view.contiguous
    except ValueError as error:
        raise LiteValueError(f"the bytes of a model are gone: {error}") from None
    if not contiguous:  # the copy of a broadcast array could be larger than memory
        raise LiteValueError(
            "the bytes of a model must lie together in memory; copy this buffer first, by numpy.ascontiguousarray say"
        )
    return bytes(view)


def read_model(source: str | bytes | memoryview, config: LiteConfig, narrow_double: bool = False) -> LoadedModel:
    """Loads a model, decrypting as the configuration says; doubles are computed as float32 if that is asked for."""
    with late_import():
        from megengine_lite._core.formats.load import load_model

    stamp = file_stamp(source)
    model = load_model(
        source,
        decrypt=config.bare_model_cryption_name or None,
        compressed=bool(config.has_compression),
        narrow_double=narrow_double,
    )
    model.stamp = stamp
    return model


def pool_of(model: LoadedModel, source: str | bytes | memoryview, settings: RunSettings) -> ConstantPool | None:
    """The weights as plans keep them, if other processes share them; else None, and a network makes its own."""
    if not settings.shares_weights or model.is_secret:
        return None
    with late_import():
        from megengine_lite._core.ir.graph import ConstantPool
        from megengine_lite._core.system.hashes import xxh64
        from megengine_lite._core.system.shared_arrays import SharedArrays

    identity = (source, file_stamp(source)) if isinstance(source, str) else (len(source), xxh64(source, 0))
    return ConstantPool(SharedArrays(identity))


def rewritten(
    source: str | bytes | memoryview,
    config: LiteConfig,
    layout: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    narrow_double: bool = False,
) -> list[Any]:
    """The model of a source as a plain file of the second generation, in chunks.

    Parameters
    ----------
    source, config
        The model, and how it is encrypted.
    layout
        With None the operators are written as they are. With a name of ``transform.LAYOUTS`` convolutions are fused and
        work in that layout.
    shapes
        For an ONNX model, shapes that inputs get in the file; the others have those of the model.
    narrow_double
        Write the doubles of an ONNX model as float32.
    """
    with late_import():
        from megengine_lite._core.formats.load import holds_onnx, load_record
        from megengine_lite._core.formats.mge.build import build_model
        from megengine_lite._core.formats.mge.to_record import to_record
        from megengine_lite._core.formats.mge.writer_v2 import write_v2

    decrypt = config.bare_model_cryption_name or None
    if holds_onnx(source, decrypt=decrypt):
        return _written_from_onnx(source, decrypt, layout, shapes, narrow_double)
    record, _, information, what = load_record(source, decrypt=decrypt)
    compressed = bool(config.has_compression or (information is not None and information.has_compression))
    if layout is not None or compressed:
        model = build_model(record, what=what, compressed=compressed)
        record = to_record(model.graph, record) if layout is None else transformed(model, record, layout)
    return write_v2(record)


def _written_from_onnx(
    source: str | bytes | memoryview,
    decrypt: str | None,
    layout: str | None,
    shapes: Mapping[str, tuple[int, ...]],
    narrow_double: bool,
) -> list[Any]:
    """An ONNX model as a plain file of the second generation."""
    from megengine_lite._core.compile.transform import transform
    from megengine_lite._core.compile.transform.for_original import for_original
    from megengine_lite._core.formats.load import load_model
    from megengine_lite._core.formats.mge.to_record import new_record
    from megengine_lite._core.formats.mge.writer_v2 import write_v2
    from megengine_lite._core.ir.declared_shape import sizes_of_names, with_same_sizes
    from megengine_lite._core.ir.dtype import FLOAT16, UINT16

    model = load_model(source, decrypt=decrypt, narrow_double=narrow_double)
    declared = {d.name: d.dims for d in model.graph.declared}
    named = sizes_of_names(model.graph.declared, shapes)
    all_shapes = with_same_sizes(model.graph.declared, {v.name: v.shape for v in model.graph.inputs}, shapes)
    sizes = ", ".join(
        f"{brief(v.name)} has {list(all_shapes.get(v.name, v.shape))}"
        for v in model.graph.inputs
        if v.name not in shapes and any(not isinstance(d, int) and d not in named for d in declared.get(v.name, ()))
    )
    given = "give others by shapes (--shape)"
    try:
        graph = for_original(model.graph, source if isinstance(source, str) else "model", all_shapes)
    except ShapeError as error:
        if not sizes:
            raise
        raise ShapeError(f"{error}. Sizes that the model leaves open were taken to be 1: {sizes}; {given}") from error
    if sizes:
        warn(f"sizes that the model leaves open are 1 in the file: {sizes}; {given}")
    outside = [*((v.name, v) for v in graph.inputs), *zip(graph.output_names, graph.outputs, strict=True)]
    for dtype in (FLOAT16, UINT16):
        names = [brief(name) for name, v in outside if v.spec is not None and v.spec.dtype == dtype]
        if names:
            warn(f"the original's Python package has no tensors of {dtype}: {', '.join(names)}; its C++ library has")
    return write_v2(new_record(graph if layout is None else transform(graph, layout)))


def transformed(model: LoadedModel, record: ModelRecord, layout: str) -> ModelRecord:
    """A model that works in a layout, as a record that can be written. Neither argument is changed.

    Parameters
    ----------
    model, record
        A model and the record that it was built from.
    layout
        A name of ``transform.LAYOUTS``.
    """
    from megengine_lite._core.compile.transform import transform
    from megengine_lite._core.formats.mge.to_record import to_record

    return to_record(transform(model.graph, layout), record)


def apply_information(settings: RunSettings, information: Information) -> None:
    """Replaces the caller's settings by those of the package, where it has them."""
    if information.version > _API_VERSION:
        logger.warning(
            "the package was made for release %s of the API, this is %s: what is new in it is not known here",
            ".".join(map(str, information.version)),
            ".".join(map(str, _API_VERSION)),
        )
    if information.backend != "MGE":
        logger.warning("the package asks for the backend %r; there is one here, which runs it", information.backend)
    if information.device_type is not None:
        kind = LiteDeviceType[f"LITE_{information.device_type}"]
        try:
            get_device(kind)
        except DeviceError as error:
            raise DeviceError(
                f"the package asks for the device {kind.name}, which is not available. To run it on the CPU call "
                "extra_configure(LiteExtraConfig(disable_model_config=True)) before load"
            ) from error
        settings.device_type = kind
    if information.device_id is not None:
        settings.device_id = information.device_id
    if information.number_threads is not None:
        settings.threads = max(information.number_threads, 1)
    if information.enable_inplace_model is not None:
        settings.inplace = information.enable_inplace_model
    if information.use_tensorrt:
        logger.warning("the package asks for TensorRT, which does not exist on a CPU")
    for name, value in information.options.items():
        setattr(settings.options, name, value)
    settings.inputs = [_merged(io, settings.inputs) for io in information.inputs] + settings.inputs
    settings.outputs = [_merged(io, settings.outputs) for io in information.outputs] + settings.outputs


def packed_measurements(package: Package | None, device: Device) -> Measurements | None:
    """The measurements in a package, for its own model; None if there are none.

    A damaged cache does not keep the model from running.
    """
    content = b"" if package is None else package.read_cache()
    if not content:
        return None
    try:
        with errors_of(device):
            return device.read_measurements(content)
    except LiteError as error:
        logger.warning("the algorithm cache of the package is not used: %s", error)
        return None


def _merged(stored: IOInformation, given: list[LiteIO]) -> LiteIO:
    """The package's description of an input or output; what it leaves out is taken from the caller's."""
    previous = next((io for io in given if io.name == stored.name), LiteIO(stored.name))
    layout = previous.config_layout
    if stored.shape:
        layout = LiteLayout(stored.shape, stored.dtype)
    io_type = previous.io_type
    if stored.io_type is not None:
        io_type = LiteIOType.LITE_IO_SHAPE if stored.io_type == "shape" else LiteIOType.LITE_IO_VALUE
    is_host = previous.is_host if stored.is_host is None else stored.is_host
    merged = LiteIO(stored.name, is_host, io_type, layout)
    given[:] = [io for io in given if io.name != stored.name]
    return merged
