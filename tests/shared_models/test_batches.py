"""Samples of a batch get bit by bit what they get alone, where a network is asked for that."""

from __future__ import annotations

import numpy as np
import pytest
from test_engine import run_session
from tolerance import MODELS, find_cases, load_case

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.session_config import AlgoPolicy, SessionConfig

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not MODELS.is_dir(), reason="the shared model collection is absent"),
]

# Networks that run at the batch of their file only, or whose first axis is no batch.
OF_ONE_BATCH = {
    "audio_lstm_step",
    "mobilenet_v2_slim_nchw88",
    "roi_head_slim",
    "ssd_nms_slim",
    "style_transfer",
    "super_resolution",
    "swin_slim",
    "multi_io",
    "text_lstm",
}
NETWORKS = [n for n in find_cases("nets") if n.removesuffix(".v1") not in OF_ONE_BATCH]
SAMPLES = 3


@pytest.mark.parametrize("name", NETWORKS)
def test_sample_gets_the_same_bits_alone_and_in_a_batch(name):
    path, inputs, _ = load_case("nets", name)
    model = load_model(path)
    config = SessionConfig(algo=AlgoPolicy(reproducible=True, binary_equal_between_batch=True))
    batch = {k: np.concatenate([np.roll(v[:1], i, -1) for i in range(SAMPLES)]) for k, v in inputs.items()}
    together = run_session(model, batch, config)
    for i in range(SAMPLES):
        alone = run_session(model, {k: v[i : i + 1] for k, v in batch.items()}, config)
        for a, b in zip(alone, together, strict=True):
            assert b.shape[0] == SAMPLES
            np.testing.assert_array_equal(a, b[i : i + 1])
