"""What a model's inputs are, and how arguments of a call become arrays for them. Public as a part of ``Model``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from megengine_lite._api.arguments import require_unmasked
from megengine_lite._api.data_sources import as_array
from megengine_lite._api.random_values import random_values
from megengine_lite._records import record
from megengine_lite.errors import LiteTypeError, LiteValueError, ShapeError, brief

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.ir.graph import Var

_KINDS = {"b": 0, "i": 1, "u": 1, "f": 2}  # of numpy's types; one is converted to those with a higher number
_NUMBERS = (bool, int, float, list, tuple, range, np.ndarray, np.generic)
_IMAGE_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class TensorDescription(NamedTuple):
    """An input or output of a model.

    ``shape`` has a number for each dimension. Where the model leaves a size open, it has the name that the size has
    there, or ``"?"``; a call may give any size. Shape and ``dtype`` of an output are None if they are not known before
    a run.
    """

    name: str
    shape: tuple[int | str, ...] | None
    dtype: np.dtype[Any] | None

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join(map(str, self.shape))
        return f"{self.name}: {self.dtype or '?'}[{sizes}]"


@record(frozen=True, slots=True)
class ModelInput:
    """An input, and what it is when a call leaves it out."""

    name: str
    shape: tuple[int | str, ...]
    dtype: np.dtype[Any]
    default: np.ndarray | None
    unsigned: str | None = None
    """What the model has in place of int32: ``"uint32"``, of which it has the bits, or ``"uint64"``."""

    @classmethod
    def of(cls, model: LoadedModel, var: Var) -> ModelInput:
        """The input that a variable of the graph stands for."""
        name, spec = var.name, var.spec
        default = model.default_inputs.get(name)
        return cls(
            name,
            () if name in model.scalars else model.open_shapes.get(name) or spec.shape,
            spec.dtype.storage,
            None if default is None else default.array,
            model.unsigned.get(name),
        )

    @property
    def info(self) -> TensorDescription:
        return TensorDescription(self.name, self.shape, self.dtype)

    def zeros(self) -> np.ndarray:
        """Zeros of the declared shape; what is not declared is 1."""
        sizes = [s if isinstance(s, int) else 1 for s in self.shape]
        return np.zeros(sizes or (1,), np.uint8 if self.dtype == np.bool_ else self.dtype)

    def random(self, seed: int = 0) -> np.ndarray:
        """Random values of the declared shape; what is not declared is 1."""
        zeros = self.zeros()
        return random_values(zeros.shape, zeros.dtype, seed) if self.dtype != np.bool_ else zeros

    def array(self, value: Any) -> np.ndarray:
        """A dense array for the input's tensor.

        Raises
        ------
        LiteTypeError
            It has no numbers, or those of another kind.
        LiteValueError
            A number does not fit into the input's type.
        ShapeError
            It has another number of dimensions.
        """
        if type(value) is not np.ndarray:
            value = self._read(value)
        dtype = self.dtype
        if value.dtype != dtype or self.unsigned == "uint64":
            value = self._converted(value, dtype)
        rank = len(self.shape)
        if value.ndim != rank and not (rank == 0 and value.shape == (1,)):
            raise ShapeError(
                f"input {self.name!r} has {rank} dimensions, {list(self.shape)}; the array has the shape "
                f"{list(value.shape)}"
            )
        dense: np.ndarray = value.reshape(1) if value.ndim == 0 else np.ascontiguousarray(value)
        if not dense.flags.aligned:  # runs read the array where it is
            dense = dense.copy()
        return dense.view(np.uint8) if dtype.kind == "b" else dense  # as tensors hold truth values

    def own_array(self, value: Any) -> np.ndarray:
        """As :meth:`array`, in memory that nobody else writes to."""
        array = self.array(value)
        if type(value) is np.ndarray:
            is_own = not np.may_share_memory(array, value)
        else:
            is_own = type(value) in (list, tuple)  # of which numpy makes arrays; others may show memory of theirs
        return array if is_own else array.copy()

    def _read(self, value: Any) -> np.ndarray:
        if _is_image(value):
            return self._image(value)
        if isinstance(value, list | tuple) and value and all(map(_is_image, value)):
            return self._images(value)
        require_unmasked(value)
        try:
            array = np.asarray(value) if isinstance(value, _NUMBERS) else as_array(value)
        except ValueError as error:
            raise LiteTypeError(
                f"input {self.name!r}: the list has no shape, because lists in it have different lengths; make an "
                "array of it"
            ) from error
        except (TypeError, RuntimeError, OverflowError) as error:
            raise LiteTypeError(f"input {self.name!r} cannot be made of {brief(value)}: {error}") from error
        if array is not None and array.dtype.kind == "O" and all(isinstance(n, int | float) for n in array.flat):
            array = self._of_large_numbers(array)
        if array is not None and not array.size and type(value) in (list, tuple):
            array = array.astype(self.dtype)  # numpy cannot know of which type the elements of an empty list are
        array = None if array is None else _of_numpy_types(array)
        if array is None or array.dtype.kind not in _KINDS:
            raise LiteTypeError(f"input {self.name!r} is an array or a list of numbers, not {brief(value)}")
        return array

    def _of_large_numbers(self, array: np.ndarray) -> np.ndarray:
        """Numbers of which some are integers that numpy has no type for."""
        try:
            if self.dtype.kind == "f":
                return array.astype(np.float64)
        except OverflowError:
            pass
        raise LiteValueError(
            f"input {self.name!r} has elements of {self.dtype}, which cannot hold some of these numbers"
        )

    def _converted(self, value: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        value = _of_numpy_types(value)
        kind, wanted = value.dtype.kind, dtype.kind
        if kind not in _KINDS or _KINDS[kind] > _KINDS[wanted]:
            raise LiteTypeError(
                f"input {self.name!r} has elements of {dtype}, the array of {value.dtype}; convert it, for example by "
                f"array.astype({dtype.name!r})"
            )
        return in_type(value, dtype, f"input {self.name!r}", self.unsigned)

    def _images(self, images: Sequence[Any]) -> np.ndarray:
        """Pillow images of one size as a batch."""
        found = [self._image(image) for image in images]
        shapes = list(dict.fromkeys(pixels.shape[1:] for pixels in found))
        if len(shapes) > 1:
            raise ShapeError(
                f"input {self.name!r}: images of one batch have one size; these become {list(shapes[0])} and "
                f"{list(shapes[1])}"
            )
        return np.concatenate(found)

    def _image(self, image: Any) -> np.ndarray:
        """A Pillow image as a batch of one, with channels where the input has them; numbers from 0 to 255."""
        shape = self.shape
        if image.mode.startswith(("I", "F")):
            raise LiteTypeError(
                f"input {self.name!r}: a Pillow image of mode {image.mode!r} has numbers beyond 0 to 255; scale it to "
                "mode 'L', or give numpy.asarray(image) in the shape of the input"
            )
        channels_first = len(shape) == 4 and shape[1] in _IMAGE_MODES
        channels_last = len(shape) == 4 and shape[3] in _IMAGE_MODES
        if channels_first and channels_last:  # a height or width of 1, 3 or 4
            sizes = (image.height, image.width)
            channels_first = _fits(sizes, shape[2:]) or not _fits(sizes, shape[1:3])
        elif not channels_first and not channels_last:
            raise ShapeError(
                f"input {self.name!r} has the shape {list(shape)}, which is not that of images: they have four "
                "dimensions and 1, 3 or 4 channels; give an array"
            )
        channels = shape[1] if channels_first else shape[3]
        assert isinstance(channels, int)
        pixels = np.asarray(image.convert(_IMAGE_MODES[channels])).reshape(image.height, image.width, channels)
        return (pixels.transpose(2, 0, 1) if channels_first else pixels)[None]


def _is_image(value: Any) -> bool:
    """Whether a value is an image of Pillow, which need not be installed."""
    return type(value).__module__.partition(".")[0] == "PIL" and hasattr(value, "convert")


def _of_numpy_types(array: np.ndarray) -> np.ndarray:
    """Numbers of a type that another package adds to numpy, such as bfloat16, in the first of numpy's that has all."""
    if array.dtype.kind == "V":
        for wider in (np.int8, np.uint8, np.float32):
            if np.can_cast(array.dtype, wider):
                return array.astype(wider)
    return array


def _fits(sizes: Sequence[int], declared: Sequence[int | str]) -> bool:
    return all(isinstance(d, str) or d == size for size, d in zip(sizes, declared, strict=True))


def in_type(array: np.ndarray, dtype: np.dtype[Any], what: str, unsigned: str | None = None) -> np.ndarray:
    """Numbers in another type. They may be rounded to that of real numbers; any other change is an error.

    Parameters
    ----------
    dtype
        The type of the result.
    what
        Stands in the message for what the array is.
    unsigned
        What the model has in place of int32: ``"uint32"``, of which it has the bits, or ``"uint64"``.
    """
    target = dtype
    if unsigned and array.size:
        is_negative = array.dtype.kind == "i" and array.min() < 0
        if unsigned == "uint64" and is_negative:
            raise LiteValueError(f"{what} has elements of uint64, which cannot hold {array.min()}")
        if unsigned == "uint32" and not is_negative:
            target = np.dtype(np.uint32)
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        found = array.astype(target)
    lost = np.isinf(found) if target.kind == "f" else found != array
    if lost.any() and target.kind == "f":
        lost &= np.isfinite(array)
    if lost.any():
        raise LiteValueError(f"{what} has elements of {target}, which cannot hold {array[lost].flat[0]}")
    return found.view(dtype)


def _is_mapping(value: Any) -> bool:
    kind = type(value)  # the question about the abstract class takes longer than all else here
    return kind is dict or (kind is not np.ndarray and isinstance(value, Mapping))


def to_feeds(
    inputs: Sequence[ModelInput],
    arrays: Sequence[Any],
    named: Mapping[str, Any],
    read: Callable[[ModelInput, Any], np.ndarray] = ModelInput.array,
) -> dict[str, np.ndarray]:
    """Arguments of a call as arrays by name; inputs with a default may be missing.

    Parameters
    ----------
    read
        Makes the array of an input: :meth:`ModelInput.array` or :meth:`ModelInput.own_array`.

    Raises
    ------
    LiteValueError
        Inputs are missing, or given twice, or there are no such.
    LiteTypeError, ShapeError
        An input does not fit.
    """
    if len(arrays) == len(inputs) == 1 and not named and type(arrays[0]) is np.ndarray:  # as most calls are
        one = inputs[0]
        return {one.name: read(one, arrays[0])}
    if len(arrays) == 1 and _is_mapping(arrays[0]):
        given = dict(arrays[0])
    else:
        if len(arrays) == len(inputs) and not named:
            return {one.name: read(one, value) for one, value in zip(inputs, arrays, strict=True)}
        if len(arrays) > len(inputs):
            raise LiteValueError(f"the model has {len(inputs)} inputs, {len(arrays)} were given")
        given = dict(zip((i.name for i in inputs), arrays, strict=False))
    if named:
        if both := given.keys() & named.keys():
            raise LiteValueError(f"input {min(both)!r} is given twice")
        given |= named
    feeds = {}
    missing = None
    for one in inputs:
        if one.name in given:
            feeds[one.name] = read(one, given.pop(one.name))
        elif one.default is None and missing is None:
            missing = one.name
    if given:
        raise LiteValueError(f"the model has no input {brief(next(iter(given)))}; it has {[i.name for i in inputs]}")
    if missing is not None:
        raise LiteValueError(f"input {missing!r} is missing; the model has {[i.name for i in inputs]}")
    return feeds
