"""Classify all images of a folder in batches, with a progress bar; the results become a table.

python -m pip install 'megengine_lite[image,progress]'
python examples/images_in_batches.py                                # 360 digits that come with the package
python examples/images_in_batches.py FOLDER --batch-size 64 --output results.csv
"""

import argparse
import csv
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

import megengine_lite

BUNDLED = Path(megengine_lite.__file__).parent / "bundled"


def write_digits(folder: Path) -> None:
    """Writes the images that come with the package as files; their names begin with what they show."""
    with np.load(BUNDLED / "digits.npz") as data:
        for k, (image, label) in enumerate(zip(data["images"], data["labels"], strict=True)):
            pixels = np.round(image * (255 / 16)).astype("uint8")
            Image.fromarray(pixels).save(folder / f"{label}_{k:03}.png")


class Images:
    """The inputs for a list of files, read when they are asked for; those that are no images are left out."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self.read: list[Path] = []

    def __length_hint__(self) -> int:  # for the progress bar
        return len(self.paths)

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            try:
                with Image.open(path) as image:
                    small = image.convert("L").resize((8, 8), Image.Resampling.BOX)
            except OSError as error:
                print(f"{path.name} is left out: {error}", file=sys.stderr)
                continue
            self.read.append(path)
            yield np.asarray(small, "float32")[None, None] * (16 / 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--output", metavar="FILE", help="where to write the table (to the screen)")
    args = parser.parse_args()
    if args.folder is not None and not args.folder.is_dir():
        parser.error(f"{args.folder} is no folder")
    has_bar = importlib.util.find_spec("tqdm") is not None
    with ExitStack() as stack:
        output = stack.enter_context(open(args.output, "w")) if args.output else sys.stdout
        if args.folder is None:
            args.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_digits(args.folder)
        model = stack.enter_context(megengine_lite.load(BUNDLED / "digits.mge"))
        images = Images(sorted(p for p in args.folder.iterdir() if p.is_file()))
        table = csv.writer(output, lineterminator="\n")
        table.writerow(["file", "digit", "probability"])
        for k, (probabilities,) in enumerate(model.map(images, batch_size=args.batch_size, progress=has_bar)):
            digit = int(probabilities[0].argmax())
            table.writerow([images.read[k].name, digit, f"{probabilities[0, digit]:.4f}"])


if __name__ == "__main__":
    main()
