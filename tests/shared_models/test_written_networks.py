"""Whole networks, written in each layout and loaded again, against what the original computed."""

from __future__ import annotations

import pytest
from test_engine import run_session
from tolerance import MODELS, check_outputs, find_cases, load_case

from megengine_lite._api.loading import transformed
from megengine_lite._core.compile.transform import LAYOUTS
from megengine_lite._core.formats.load import load_model, load_record
from megengine_lite._core.formats.mge.build import build_model
from megengine_lite._core.formats.mge.writer_v2 import write_v2
from megengine_lite._core.session_config import SessionConfig

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not MODELS.is_dir(), reason="the shared model collection is absent"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", find_cases("nets"))
def test_written_network_gives_recorded_outputs(tmp_path, name, layout):
    path, inputs, expected = load_case("nets", name)
    record, *_ = load_record(path)
    target = tmp_path / "written.mge"
    target.write_bytes(b"".join(map(bytes, write_v2(transformed(build_model(record), record, layout)))))
    model = load_model(target)
    before = load_model(path)
    assert (model.input_names, model.output_names) == (before.input_names, before.output_names)
    check_outputs("nets", name, run_session(model, inputs, SessionConfig()), expected)
