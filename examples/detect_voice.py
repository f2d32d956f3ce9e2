"""Finds speech in a recording with silero-vad, whose package brings the model along.

python -m pip install --no-deps silero-vad
python -m pip install megengine_lite
python examples/detect_voice.py RECORDING.wav

The recording has 16 bits, one channel and 16,000 samples per second. It is read in pieces of 32 ms, as from a
microphone: the model's state goes from each call to the next.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import megengine_lite

RATE, PIECE = 16_000, 512
CONTEXT = 64  # samples of the piece before, which the model sees again


def model_file() -> Path:
    """The model in the package, which is not imported."""
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        sys.exit("install the model first: python -m pip install --no-deps silero-vad")
    return Path(spec.origin).parent / "data" / "silero_vad.onnx"


def pieces_of(path: str) -> Iterator[np.ndarray]:
    """The recording in pieces of one size, numbers from -1 to 1; zeros fill the last one."""
    with open(path, "rb") as file, wave.open(file) as recording:
        if (recording.getframerate(), recording.getnchannels(), recording.getsampwidth()) != (RATE, 1, 2):
            sys.exit(f"{path} must have 16 bits, one channel and {RATE} samples per second")
        while content := recording.readframes(PIECE):
            piece = np.frombuffer(content, "<i2").astype(np.float32) / 32768
            yield np.pad(piece, (0, PIECE - len(piece)))


class VoiceDetector:
    """The probability of speech, piece by piece."""

    def __init__(self) -> None:
        self._model = megengine_lite.load(model_file(), threads=1)
        self._state = np.zeros([2, 1, 128], np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def __call__(self, piece: np.ndarray) -> float:
        signal = np.concatenate([self._context, piece])[None]
        probability, self._state = self._model(input=signal, state=self._state, sr=RATE)
        self._context = piece[-CONTEXT:]
        return float(probability[0, 0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording")
    path = parser.parse_args().recording
    detector = VoiceDetector()
    try:
        for k, piece in enumerate(pieces_of(path)):
            probability = detector(piece)
            print(f"{k * PIECE / RATE:6.2f} s  {probability:4.0%}  {'#' * round(40 * probability)}")
    except (OSError, EOFError, wave.Error) as error:
        sys.exit(f"{path} is not read: {error}")


if __name__ == "__main__":
    main()
