"""Run an encrypted model whose key is in the environment, so that it is in no file and in no list of processes.

export MODEL_KEY='a passphrase, or 32 bytes'
megengine-lite encrypt model.mge secret.mge --method AES_256_GCM --key env:MODEL_KEY
python examples/encrypted_model.py secret.mge

The model here is the one that comes with the package. Without a file the example encrypts it first.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import megengine_lite
from megengine_lite import LiteGlobal
from megengine_lite.cli import main as megengine_lite_command
from megengine_lite.errors import DecryptionError, LiteError

BUNDLED = Path(megengine_lite.__file__).parent / "bundled"


def load_encrypted(path: str) -> megengine_lite.Model:
    """The model in a file that is encrypted by AES_256_GCM. It is decrypted in memory only."""
    key = os.environ.pop("MODEL_KEY", "")  # processes that are started from here do not see it
    if not key:
        sys.exit("set the environment variable MODEL_KEY to the key of the model")
    LiteGlobal.update_decryption_key("AES_256_GCM", key.encode())
    try:
        return megengine_lite.load(path)  # the file says how it is encrypted
    except DecryptionError as error:
        sys.exit(f"MODEL_KEY is not the key of {path}, or the file was changed: {error}")
    except LiteError as error:
        sys.exit(f"{path} is not loaded: {error}")


def accuracy(model: megengine_lite.Model) -> float:
    """How many of the images that come with the package are recognised."""
    with np.load(BUNDLED / "digits.npz") as data:
        images, labels = data["images"], data["labels"]
    (probabilities,) = model(images[:, None])
    return float((probabilities.argmax(axis=1) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    given = parser.parse_args().model
    with tempfile.TemporaryDirectory() as folder:
        path = given or str(Path(folder) / "secret.mge")
        if not given and os.environ.get("MODEL_KEY"):
            words = ["--method", "AES_256_GCM", "--key", "env:MODEL_KEY"]
            megengine_lite_command(["encrypt", str(BUNDLED / "digits.mge"), path, *words])
        with load_encrypted(path) as model:
            print(f"accuracy {accuracy(model):.1%}")


if __name__ == "__main__":
    main()
