"""Classify images: the three most probable classes of each.

python -m pip install 'megengine_lite[image]'
python examples/classify_images.py                     # the digits that come with the package
python examples/classify_images.py a.png b.jpg         # light digits on a dark background

For another model change what stands between the lines: its file, how pixels become its input, names of its classes.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import megengine_lite

# ----------------------------------------------------------------------------------------------------------------------
BUNDLED = Path(megengine_lite.__file__).parent / "bundled"
MODEL = BUNDLED / "digits.mge"
CLASSES = "0123456789"


def prepared(image: Image.Image) -> np.ndarray:
    """The input for an image, of shape [1, 1, 8, 8]: shades of grey from 0 to 16."""
    small = image.convert("L").resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small, "float32")[None, None] * (16 / 255)


# ----------------------------------------------------------------------------------------------------------------------


def bundled_images(count: int) -> Iterator[tuple[str, Image.Image]]:
    with np.load(BUNDLED / "digits.npz") as data:
        for image, label in zip(data["images"][:count], data["labels"][:count], strict=True):
            pixels = np.round(image * (255 / 16)).astype("uint8")
            yield f"a {label}", Image.fromarray(pixels)


def opened_images(paths: list[str]) -> Iterator[tuple[str, Image.Image]]:
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
        except OSError as error:
            sys.exit(f"{path} is not read: {error}")
        yield path, image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="*")
    paths = parser.parse_args().image
    images = opened_images(paths) if paths else bundled_images(10)
    with megengine_lite.load(MODEL) as model:
        for name, image in images:
            (probabilities,) = model(prepared(image))
            best = np.argsort(-probabilities[0])[:3]
            print(f"{name}:", ", ".join(f"{CLASSES[k]} ({probabilities[0, k]:.1%})" for k in best))


if __name__ == "__main__":
    main()
