"""Reads a line of text in an image with PP-OCR, which the package rapidocr-onnxruntime brings along.

python -m pip install --no-deps rapidocr-onnxruntime
python -m pip install megengine_lite pillow
python examples/recognise_text.py [IMAGE]

Without an image, a line of text is drawn and read.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import megengine_lite

HEIGHT = 48  # of the lines that the model reads


def model_file() -> Path:
    """The model in the package, which is not imported."""
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None or spec.origin is None:
        sys.exit("install the model first: python -m pip install --no-deps rapidocr-onnxruntime")
    return Path(spec.origin).parent / "models" / "ch_PP-OCRv4_rec_infer.onnx"


def drawn(text: str) -> Image.Image:
    """A white image of a line of text."""
    font = ImageFont.load_default(32)
    image = Image.new("RGB", (int(font.getlength(text)) + 24, HEIGHT), "white")
    ImageDraw.Draw(image).text((12, 6), text, "black", font)
    return image


def prepared(image: Image.Image) -> np.ndarray:
    """The image as the model wants it: 48 pixels high, blue first, numbers from -1 to 1."""
    width = max(round(image.width * HEIGHT / image.height), 8)
    pixels = np.asarray(image.convert("RGB").resize((width, HEIGHT)), np.float32)[:, :, ::-1]
    return (pixels / 127.5 - 1).transpose(2, 0, 1)[None]


def decoded(probabilities: np.ndarray, characters: list[str]) -> tuple[str, float]:
    """The text, and how sure the model is of it: 0 to 1.

    There is a row for each column of the image. The first class means "none"; a letter counts once while it stays.
    """
    best = probabilities.argmax(1)
    kept = (best != 0) & (np.diff(best, prepend=0) != 0)
    text = "".join(characters[k - 1] for k in best[kept])
    return text.strip(), float(probabilities.max(1)[kept].mean()) if kept.any() else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?")
    path = parser.parse_args().image
    try:
        image = Image.open(path) if path else drawn("megengine lite reads 2026")
        image.load()
    except OSError as error:
        sys.exit(f"{path} is not read: {error}")
    with megengine_lite.load(model_file()) as model:
        (probabilities,) = model(prepared(image))
        characters = [*model.metadata["character"].splitlines(), " "]
        text, sure = decoded(probabilities[0], characters)
    print(f"{text}  ({sure:.0%})")


if __name__ == "__main__":
    main()
