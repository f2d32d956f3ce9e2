"""Classify handwritten digits with the small model that comes with the package."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib.resources import as_file, files
from time import perf_counter
from typing import Any

import numpy as np

from megengine_lite._cli import display

SHADES = " .:-=+*#%@"
SHOWN = 8

USAGE = "[flags]"


def add(parser: ArgumentParser) -> None:
    """No arguments of its own."""


def execute(args: Namespace) -> dict[str, Any]:
    """Classifies all images, first one by one and then as one batch."""
    from megengine_lite import LiteNetwork, cpu_info

    network = LiteNetwork()
    with as_file(files("megengine_lite") / "bundled") as folder:
        network.load(folder / "digits.mge")
        with np.load(folder / "digits.npz") as data:
            images, labels, expected = data["images"], data["labels"], data["prob"]
    batch = images[:, None].astype(np.float32)
    data = network.get_io_tensor("data")
    output = network.get_io_tensor(network.get_output_name(0))
    times = []
    single = []
    for image in batch:
        begin = perf_counter()
        data.set_data_by_copy(image[None])
        network.forward()
        network.wait()
        times.append((perf_counter() - begin) * 1e3)
        single.append(output.to_numpy()[0])
    data.set_data_by_copy(batch)
    network.forward()
    network.wait()
    together = output.to_numpy()
    predictions = np.argmax(single, axis=1)
    return {
        "predictions": predictions.tolist(),
        "labels": labels.tolist(),
        "accuracy": float((predictions == labels).mean()),
        "accuracy_of_batch": float((together.argmax(axis=1) == labels).mean()),
        "largest_difference": float(np.abs(np.array(single) - expected).max()),
        "time_ms": display.statistics(times[1:]),
        "instruction_set": cpu_info()["chosen"],
        "first_images": images[:SHOWN].tolist(),
    }


def show(result: dict[str, Any]) -> None:
    """Draws the first images, then prints all predictions and the accuracy."""
    images = np.array(result["first_images"])
    for row in range(images.shape[1]):
        print("  ".join("".join(SHADES[min(v * 10 // 17, 9)] for v in image[row]) for image in images))
    predictions, labels = result["predictions"], result["labels"]
    print("  ".join(f"{f'-> {p}':8}" for p in predictions[: len(images)]) + "\n")
    print(f"predictions for {len(labels)} images (! where the label says otherwise)")
    marked = [f"{p}{'' if p == label else '!'}" for p, label in zip(predictions, labels, strict=True)]
    for k in range(0, len(marked), 30):
        print(" ".join(f"{m:2}" for m in marked[k : k + 30]).rstrip())
    t = result["time_ms"]
    right = sum(p == label for p, label in zip(predictions, labels, strict=True))
    print(
        f"\naccuracy {100 * result['accuracy']:.1f} % ({right} of {len(labels)}), as a batch too: "
        f"{100 * result['accuracy_of_batch']:.1f} %"
    )
    print(f"largest difference from the outputs of MegEngine {result['largest_difference']:.1e}")
    print(f"median time of an image {t['p50'] * 1e3:.0f} microseconds ({result['instruction_set']} kernels)")
