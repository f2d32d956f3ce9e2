"""Inputs of a network from the command line: files, text, images, or random numbers."""

from __future__ import annotations

import ast
import json
import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._cli.report import shape_text
from megengine_lite.errors import LiteError, LiteValueError

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork, LiteTensor

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def add_input_flags(parser: ArgumentParser) -> None:
    """Declares what :func:`set_inputs` reads."""
    group = parser.add_argument_group("inputs")
    group.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of an input: a file (.npy, .npz, .json, an image), numbers as [[1,2],[3,4]], or a shape as "
        "{1,3,224,224}. NAME: as in load_and_run works, too; a model with one input needs no name; a .npz without a "
        "name sets all inputs that it has. May be repeated",
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="repeat or cut all inputs to this batch size")
    group.add_argument(
        "--image-mean", metavar="M", help="subtracted from images: one number, or one per channel: M,M,M"
    )
    group.add_argument("--image-std", metavar="S", help="images are divided by it after that")
    group.add_argument(
        "--image-order", choices=["bgr", "rgb"], default="bgr", help="order of colours in the input (bgr)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of random inputs")


def set_inputs(args: Namespace, network: LiteNetwork, *, fill: bool) -> dict[str, np.ndarray]:
    """Sets the inputs of a network; gives the values that were set.

    Parameters
    ----------
    fill
        Use random values for inputs that are not given. Otherwise such inputs are an error, unless the model has
        default values for them.
    """
    names = network.get_all_input_name()
    given: dict[str, np.ndarray] = {}
    for name, value in _split(args.input, names):
        tensor = network.get_io_tensor(name)
        given[name] = _fit(read_value(value, name, tensor, args), tensor)
    missing = [n for n in names if n not in given]
    defaults = _default_inputs(args) if missing else set()
    for name in missing:
        layout = network.get_io_tensor(name).layout
        if name in defaults:
            continue
        if not fill:
            raise LiteError(
                f"input {name!r} ({np.dtype(layout.dtype)} {shape_text(layout.shapes)}) has no value: "
                f"give --input {name}=FILE"
            )
        given[name] = random_values(layout.shapes, np.dtype(layout.dtype), args.seed)
    if args.batch_size:
        given = {name: np.resize(a, (args.batch_size, *a.shape[1:])) for name, a in given.items()}
    for name, array in given.items():
        network.get_io_tensor(name).set_data_by_copy(np.ascontiguousarray(array))
    return given


def _default_inputs(args: Namespace) -> set[str]:
    from megengine_lite._core.loader import load_model

    return set(load_model(args.model, decrypt=args.decrypt, check=False).default_inputs)


def random_values(shape: Sequence[int], dtype: np.dtype, seed: int) -> np.ndarray:
    """Values that suit any network: normal numbers, bytes, or zeros and ones where they may be indices."""
    generator = np.random.default_rng(seed)
    if dtype.kind == "f":
        return generator.standard_normal(shape, np.float32).astype(dtype)
    high = 256 if dtype == np.uint8 else 128 if dtype == np.int8 else 2
    return generator.integers(0, high, shape, dtype)


def _split(words: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Input names and values, from ``NAME=VALUE``, ``NAME:VALUE`` or ``VALUE``, also joined by semicolons."""
    for item in (i for word in words for i in word.split(";") if i):
        match = re.match(r"(.*?)[=:](.*)", item, re.S)
        if match and match[1] in names:
            yield match[1], match[2]
        elif item.endswith(".npz"):
            found = [n for n in names if {n, f"in_{n}"} & _npz_names(item)]
            if not found:
                raise LiteValueError(f"{item} has none of the inputs {', '.join(names)}")
            yield from ((n, item) for n in found)
        elif match and not os.path.exists(item) and match[1].isidentifier():
            raise LiteValueError(f"the model has no input {match[1]!r}; its inputs are {', '.join(names)}")
        elif len(names) == 1 or "data" in names:
            yield names[0] if len(names) == 1 else "data", item
        else:
            raise LiteValueError(f"--input {item!r} does not name one of the inputs {', '.join(names)}")


def read_value(text: str, name: str, tensor: LiteTensor, args: Namespace) -> np.ndarray:
    """The array that a value on the command line stands for."""
    dtype = np.dtype(tensor.layout.dtype)
    if re.fullmatch(r"\{[\d, ]+\}", text):
        shape = [int(d) for d in text.strip("{} ").split(",")]
        return np.full([*shape, dtype.itemsize], 1, np.uint8).view(dtype)[..., 0]
    if text.startswith("["):
        return _read_numbers(text)
    suffix = os.path.splitext(text)[1].lower()
    if suffix == ".npy":
        return _checked_load(text)
    if suffix == ".npz":
        with _checked_load(text) as file:
            return file[name if name in file.files else f"in_{name}"]
    if suffix == ".json":
        return _read_json(text, name)
    if suffix in IMAGE_SUFFIXES:
        return _read_image(text, tensor, args)
    raise LiteValueError(
        f"cannot read input {name!r} from {text!r}: neither .npy, .npz, .json, image, [numbers] nor {{shape}}"
    )


def _checked_load(path: str) -> Any:
    try:
        return np.load(path)
    except ValueError as error:
        raise LiteValueError(f"cannot read {path}: {error}") from None


def _npz_names(path: str) -> set[str]:
    with _checked_load(path) as file:
        return set(file.files)


def _read_numbers(text: str) -> np.ndarray:
    try:
        return np.array(ast.literal_eval(text), np.float32 if "." in text else np.int32)
    except (ValueError, SyntaxError, TypeError) as error:
        raise LiteValueError(f"{text!r} is not a list of numbers: {error}") from None


def _read_json(path: str, name: str) -> np.ndarray:
    """``{"NAME": {"shape": [...], "type": "float32", "raw": [...]}}``."""
    with open(path, encoding="utf-8") as file:
        try:
            entry = json.load(file)[name]
            return np.array(entry["raw"], entry["type"]).reshape(entry["shape"])
        except (ValueError, KeyError, TypeError) as error:
            raise LiteValueError(f"{path} does not describe input {name!r}: {error!r}") from None


def _read_image(path: str, tensor: LiteTensor, args: Namespace) -> np.ndarray:
    """The image in the size, the channels and the layout (NCHW or NHWC) of the input."""
    try:
        from PIL import Image
    except ImportError:
        raise LiteError(f"reading {path} needs Pillow: pip install pillow") from None
    shape = tensor.layout.shapes
    if len(shape) != 4:
        raise LiteValueError(f"an image needs an input of 4 dimensions, this one has {shape_text(shape)}")
    channels_last = shape[1] not in (1, 3) and shape[3] in (1, 3)
    height, width, channels = shape[1:] if channels_last else (*shape[2:], shape[1])
    if channels not in (1, 3):
        raise LiteValueError(f"an image has 1 or 3 channels, the input is {shape_text(shape)}")
    with Image.open(path) as image:
        picture = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    pixels: np.ndarray = np.asarray(picture).reshape(height, width, channels)
    if args.image_order == "bgr":
        pixels = pixels[..., ::-1]
    if args.image_mean or args.image_std:
        pixels = (pixels - _per_channel(args.image_mean, 0.0)) / _per_channel(args.image_std, 1.0)
    return pixels[None] if channels_last else pixels.transpose(2, 0, 1)[None]


def _per_channel(text: str | None, default: float) -> np.ndarray:
    try:
        return np.array([float(v) for v in text.split(",")] if text else [default], np.float32)
    except ValueError:
        raise LiteValueError(f"{text!r} is not a number for each channel") from None


def _fit(array: np.ndarray, tensor: LiteTensor) -> np.ndarray:
    """The array in the type of the input, where no value changes by that but for rounding."""
    dtype = np.dtype(tensor.layout.dtype)
    if array.dtype == dtype or dtype.kind == "f":
        return array.astype(dtype)
    converted = array.astype(dtype)
    if not np.array_equal(converted, array):
        raise LiteValueError(f"values of type {array.dtype} do not fit the input's type {dtype}")
    return converted
