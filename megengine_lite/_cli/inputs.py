"""Inputs of a network from the command line: files, text, images, or random numbers."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._api.integer_inputs import integer_ranges
from megengine_lite._api.model_inputs import in_type
from megengine_lite._api.random_values import random_values
from megengine_lite._cli import number_types
from megengine_lite._cli.display import shape_text
from megengine_lite._cli.gflags import UsageError
from megengine_lite._cli.number_lists import read_json, read_numbers
from megengine_lite._cli.random_inputs import add_random_flags, described_inputs
from megengine_lite._core.ir.declared_shape import OpenShape, open_shape_text, sizes_of_names, with_same_sizes
from megengine_lite._core.system.files import open_file, read_file
from megengine_lite._core.system.memory_limit import check_room
from megengine_lite.errors import LiteError, LiteValueError
from megengine_lite.log import warn

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork, LiteTensor

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


# The exceptions of numpy for files that are damaged or something else.
_NOT_READ = (OSError, ValueError, EOFError, SyntaxError, RuntimeError, zipfile.BadZipFile, zlib.error)


def add_input_flags(parser: ArgumentParser) -> None:
    """Declares what :func:`set_inputs` reads."""
    group = parser.add_argument_group("inputs")
    group.add_argument(
        "--input",
        "--load-input-data",
        dest="input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of an input: a file (.npy, .npz, .json, an image), numbers as [[1,2],[3,4]], or a shape as "
        "{1,3,224,224}. NAME: as in load_and_run works, too; a model with one input needs no name; a .npz without a "
        "name sets all inputs that it has. May be repeated",
    )
    group.add_argument(
        "--batch-size",
        "--batchsize",
        type=number_types.positive,
        metavar="N",
        help="repeat or cut all inputs to this batch size",
    )
    group.add_argument(
        "--image-mean",
        type=_per_channel,
        metavar="M",
        help="subtracted from images: one number, or one per channel: M,M,M",
    )
    group.add_argument("--image-std", type=_divisors, metavar="S", help="images are divided by it after that")
    group.add_argument(
        "--image-order", choices=["bgr", "rgb"], default="bgr", help="order of colours in the input (bgr)"
    )
    add_random_flags(group)


def set_inputs(args: Namespace, network: LiteNetwork, *, fill: bool) -> dict[str, np.ndarray]:
    """Sets the inputs of a network by :func:`read_inputs`; gives the values that were set."""
    given = read_inputs(args, network, fill=fill)
    set_arrays(network, given)
    return given


def set_arrays(network: LiteNetwork, given: Mapping[str, np.ndarray]) -> None:
    """Copies arrays into the inputs of a network."""
    for name, array in given.items():
        network.get_io_tensor(name).set_data_by_copy(np.ascontiguousarray(array))


def read_inputs(args: Namespace, network: LiteNetwork, *, fill: bool) -> dict[str, np.ndarray]:
    """The values of the inputs of a network that has none yet.

    Parameters
    ----------
    fill
        Use random values for inputs without a value; otherwise such inputs are an error. Inputs that the command line
        does not give have the values of the first test case behind the model, or the model's default values.
    """
    names = network.get_all_input_name()
    model = network._loaded("set_inputs").model
    layouts = {name: network.get_io_tensor(name).layout for name in names}
    specs = {name: (layout.shapes, np.dtype(layout.dtype)) for name, layout in layouts.items()}
    declared = model.graph.declared
    given: dict[str, np.ndarray] = described_inputs(args, specs, declared)
    values = list(_split(args.input, names))
    if (args.image_mean is not None or args.image_std is not None) and not any(map(_is_image, values)):
        raise UsageError("--image-mean and --image-std are for inputs that are images")
    for name, value in values:
        if name in given:
            raise LiteValueError(f"input {name!r} is given twice")
        tensor = network.get_io_tensor(name)
        shape = model.open_shapes.get(name) or tensor.layout.shapes
        given[name] = _fit(read_value(value, name, tensor, args, shape), name, specs[name][1], model.unsigned.get(name))
    missing = [n for n in names if n not in given]
    filled: set[str] = set()
    defaults = _default_inputs(args) if missing else set()
    ranges = integer_ranges(model.graph) if missing else {}
    case = next(iter(stored_cases(args)), {}) if missing else {}
    for name in missing:
        shape, dtype = specs[name]
        if name in case:
            given[name] = case[name]
            continue
        if name in defaults:
            continue
        if not fill:
            raise LiteError(
                f"input {name!r} ({dtype} {shape_text(shape)}) has no value: give --input {name}=FILE, or "
                f'--input-desc "{name}:{",".join(map(str, shape))}" for random values'
            )
        # Sizes with a name are those of the inputs that are given.
        known = {n: a.shape for n, a in given.items() if n not in filled}
        shape = with_same_sizes(declared, {name: shape}, known)[name]
        _tell_of_open_sizes(name, shape, model.open_shapes.get(name), sizes_of_names(declared, known))
        given[name] = random_values(shape, dtype, args.seed, ranges.get(name))
        filled.add(name)
    if args.batch_size:
        given = {name: _at_batch(a, args.batch_size, name) for name, a in given.items()}
    return given


def _tell_of_open_sizes(name: str, taken: Sequence[int], shape: OpenShape | None, sizes: Mapping[str, int]) -> None:
    """Warns of sizes that are 1 only because nobody has given them. For a batch 1 is what people expect."""
    if shape and not all(isinstance(size, int) or size in sizes for size in shape[1:]):
        text = ",".join(map(str, taken))
        warn(
            f"input {name!r} is {open_shape_text(shape)} in the model; random values of {text} are taken: give "
            f'--input-desc "{name}:SIZES" for others'
        )


def _at_batch(array: np.ndarray, samples: int, name: str) -> np.ndarray:
    """The samples of an array, repeated or cut to a number."""
    shape = (samples, *array.shape[1:])
    check_room(shape, array.dtype, f"input {name!r}")
    if not array.size:
        return np.zeros(shape, array.dtype)
    return array.take(np.arange(samples) % len(array), axis=0)


def _is_image(item: tuple[str, str]) -> bool:
    return os.path.splitext(item[1])[1].lower() in IMAGE_SUFFIXES


def _default_inputs(args: Namespace) -> set[str]:
    from megengine_lite._core.formats.load import load_model

    return set(load_model(args.model, decrypt=args.decrypt, check=False).default_inputs)


def stored_cases(args: Namespace) -> list[dict[str, np.ndarray]]:
    """The inputs of the test cases behind the model; a model that was dumped with them checks its outputs by them."""
    from megengine_lite._core.formats.load import load_test_cases
    from megengine_lite._core.formats.mge.reader import TEST_CASE_MAGIC

    if args.decrypt:
        return []
    with open_file(args.model) as file:
        wrapped = file.read(len(TEST_CASE_MAGIC)) == TEST_CASE_MAGIC
    return load_test_cases(args.model) if wrapped else []


def _split(words: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Input names and values, from ``NAME=VALUE``, ``NAME:VALUE`` or ``VALUE``, also joined by semicolons."""
    for item in (i for word in words for i in word.split(";") if i):
        match = re.match(r"(.*?)[=:](.*)", item, re.S)
        if match and match[1] in names:
            yield match[1], match[2]
        elif match and not os.path.exists(item) and match[1].isidentifier():
            raise LiteValueError(f"the model has no input {match[1]!r}; its inputs are {', '.join(names)}")
        elif item.endswith(".npz"):
            found = [n for n in names if {n, f"in_{n}"} & _npz_names(item)]
            if not found:
                raise LiteValueError(f"{item} has none of the inputs {', '.join(names)}")
            yield from ((n, item) for n in found)
        elif len(names) == 1 or "data" in names:
            yield names[0] if len(names) == 1 else "data", item
        else:
            raise LiteValueError(f"--input {item!r} does not name one of the inputs {', '.join(names)}")


def read_value(text: str, name: str, tensor: LiteTensor, args: Namespace, declared: Sequence[int | str]) -> np.ndarray:
    """The array that a value on the command line stands for; ``declared`` is the input's shape in the model."""
    dtype = np.dtype(tensor.layout.dtype)
    if re.fullmatch(r"\{[\d, ]+\}", text):
        shape = [int(d) for d in text.strip("{} ").split(",")]
        check_room(shape, dtype, f"input {name!r}")
        return np.full([*shape, dtype.itemsize], 1, np.uint8).view(dtype)[..., 0]
    if text.startswith("["):
        return read_numbers(text, dtype, f"input {name!r}")
    suffix = os.path.splitext(text)[1].lower()
    if suffix == ".npy":
        result: np.ndarray = checked_load(text)
        return result
    if suffix == ".npz":
        with checked_load(text) as file:
            key = name if name in file.files else f"in_{name}"
            if key not in file.files:
                raise LiteValueError(f"{text} has no array {name!r}; there are {', '.join(file.files) or 'none'}")
            return member(file, key, text)
    if suffix == ".json":
        return _read_json(text, name)
    if suffix in (".pkl", ".pickle"):
        raise LiteValueError(f"{text} is not read, because pickle files can run code: save the arrays as .npz")
    if suffix in IMAGE_SUFFIXES:
        return _read_image(text, declared, args)
    raise LiteValueError(
        f"cannot read input {name!r} from {text!r}: neither .npy, .npz, .json, image, [numbers] nor {{shape}}"
    )


def checked_load(path: str) -> Any:
    """``numpy.load``, with errors that name the file. Pickled objects are not loaded: they can run code."""
    from megengine_lite._core.formats.foreign_files import ARRAY, ARRAYS, HEAD, recognise

    with open_file(path, pipes=False) as file:
        kind = recognise(file.read(HEAD))
    if kind is not None and kind is not (ARRAY if path.lower().endswith(".npy") else ARRAYS):
        raise LiteValueError(f"cannot read {path}: it is {kind}")
    try:
        return np.load(path)
    except _NOT_READ as error:
        raise LiteValueError(f"cannot read {path}: {error}") from None


def member(file: Any, key: str, path: str) -> np.ndarray:
    """An array of a ``.npz`` file, which numpy reads and checks only at this point."""
    try:
        return np.asarray(file[key])
    except _NOT_READ as error:
        raise LiteValueError(f"cannot read {key!r} in {path}: {error}") from None


def _npz_names(path: str) -> set[str]:
    with checked_load(path) as file:
        return set(file.files)


def _read_json(path: str, name: str) -> np.ndarray:
    """``{"NAME": {"shape": [...], "type": "float32", "raw": [...]}}``."""
    content = read_file(path)
    try:
        return read_json(content, name, path)
    except LiteValueError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise LiteValueError(f"{path} does not describe input {name!r}: {error!r}") from None


def _read_image(path: str, shape: Sequence[int | str], args: Namespace) -> np.ndarray:
    """The image in the size, the channels and the layout (NCHW or NHWC) of the input.

    A size that the model leaves open is the image's own; if the other one is given, it follows in proportion.
    """
    try:
        from PIL import Image
    except ImportError:
        raise LiteError(f"reading {path} needs Pillow: pip install pillow") from None
    if len(shape) != 4:
        raise LiteValueError(f"an image needs an input of 4 dimensions, this one has {open_shape_text(shape)}")
    channels_last = shape[1] not in (1, 3) and shape[3] in (1, 3)
    height, width, channels = shape[1:] if channels_last else (*shape[2:], shape[1])
    if channels not in (1, 3):
        raise LiteValueError(f"an image has 1 or 3 channels, the input is {open_shape_text(shape)}: give an array")
    try:
        with open_file(path) as file, Image.open(file) as image:
            width, height = _fitting_size((width, height), image.size)
            picture = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    except LiteError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise LiteValueError(f"{path} cannot be read as an image: {error}") from error
    pixels: np.ndarray = np.asarray(picture).reshape(height, width, channels)
    if args.image_order == "bgr":
        pixels = pixels[..., ::-1]
    for numbers in (args.image_mean, args.image_std):
        if numbers is not None and len(numbers) not in (1, channels):
            raise LiteValueError(f"{path}: {len(numbers)} numbers for --image-mean or --image-std, {channels} channels")
    if args.image_mean is not None:
        pixels = pixels - args.image_mean
    if args.image_std is not None:
        pixels = pixels / args.image_std
    return pixels[None] if channels_last else pixels.transpose(2, 0, 1)[None]


def _fitting_size(wanted: tuple[int | str, int | str], own: tuple[int, int]) -> tuple[int, int]:
    """The width and height of an image for an input, which may leave them open."""
    width, height = wanted
    if isinstance(width, int):
        return width, height if isinstance(height, int) else max(1, round(own[1] * width / own[0]))
    return (max(1, round(own[0] * height / own[1])), height) if isinstance(height, int) else own


def _per_channel(text: str) -> np.ndarray:
    values = [number_types.real(v) for v in text.split(",")]
    if len(values) not in (1, 3):
        raise ArgumentTypeError(f"{text} is neither one number nor three")
    with np.errstate(over="ignore"):
        array = np.array(values, np.float32)
    if not np.isfinite(array).all():
        raise ArgumentTypeError(f"{text} is beyond the range of float32")
    return array


def _divisors(text: str) -> np.ndarray:
    values = _per_channel(text)
    if not values.all():
        raise ArgumentTypeError(f"{text}: images cannot be divided by 0")
    return values


def _fit(array: np.ndarray, name: str, dtype: np.dtype[Any], unsigned: str | None) -> np.ndarray:
    """The array in the type of the input."""
    if array.dtype.kind not in "biuf":
        raise LiteValueError(f"values of type {array.dtype} are no numbers")
    return (
        array if array.dtype == dtype and unsigned != "uint64" else in_type(array, dtype, f"input {name!r}", unsigned)
    )
