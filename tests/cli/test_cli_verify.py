"""The command verify: what it compares, and what it says of it."""

import json
from pathlib import Path

import numpy as np
import pytest

import megengine_lite
from megengine_lite._cli import flags
from megengine_lite._cli.verify import compare

BUNDLED = Path(megengine_lite.__file__).parent / "bundled"
DIGITS = str(BUNDLED / "digits.mge")


@pytest.fixture(scope="module")
def data():
    with np.load(BUNDLED / "digits.npz") as file:
        return dict(file)


def test_verify_compares_with_stored_outputs(run_json, data, tmp_path):
    case = {"in_data": data["images"][:, None].astype(np.float32), "out_0": data["prob"]}
    np.savez(tmp_path / "case.npz", **case)
    result = run_json("verify", DIGITS, "--against", tmp_path / "case.npz", "--tolerance", 1e-5)
    assert result["outputs"]["prob"]["equal"] and result["outputs"]["prob"]["relative"] < 1e-5
    case["out_0"] = data["prob"] + 0.01
    np.savez(tmp_path / "wrong.npz", **case)
    result = run_json("verify", DIGITS, "--against", tmp_path / "wrong.npz", status=1)
    assert result["outputs"]["prob"]["difference"] == pytest.approx(0.01, rel=1e-3)


def test_verify_compares_models_and_unoptimized_runs(run_json):
    for against in ([], ["--against", DIGITS]):
        result = run_json("verify", DIGITS, "--threads", 2, "--enable-nchw44", *against)
        assert result["outputs"]["prob"]["relative"] < 1e-5 and not result["failed"]


def test_verify_gives_the_other_run_flags_of_its_own(run_json, error_of, monkeypatch):
    loaded = []
    load = flags.load_network
    monkeypatch.setattr(flags, "load_network", lambda args: (loaded.append(args), load(args))[1])
    other = "--other=--isa base --threads 2 --nofast_run --option graph_opt_level=0"
    result = run_json("verify", DIGITS, "--fast-run", "--threads", 1, "--option", "jit_level=1", other)
    assert result["outputs"]["prob"]["relative"] < 1e-5 and result["against"] == other.partition("=")[2]
    first, second = loaded
    assert (first.isa, first.threads, first.fast_run, first.option) == (None, 1, True, ["jit_level=1"])
    assert (second.isa, second.threads, second.fast_run) == ("base", 2, False)
    assert second.option == ["jit_level=1", "graph_opt_level=0"]
    assert "No closing quotation" in error_of("verify", DIGITS, "--other='", status=2)
    assert "--other: error: unrecognized arguments: --bogus" in error_of("verify", DIGITS, "--other=--bogus", status=2)
    assert "is for a second run" in error_of("verify", DIGITS, "--against=x.npz", "--other=--cpu", status=2)


def test_verify_runs_packages_without_their_own_options_for_the_unoptimized_run(run_json, tmp_path, monkeypatch):
    settings = {"name": "digits", "valid": True, "version": "1.13.0", "options": {"graph_opt_level": 2}}
    (tmp_path / "info.json").write_text(json.dumps(settings))
    run_json("pack", DIGITS, tmp_path / "m.lite", "--info", tmp_path / "info.json")
    levels = []
    load = flags.load_network

    def watched(args):
        loaded = load(args)
        levels.append(loaded.network._settings.options.graph_opt_level)
        return loaded

    monkeypatch.setattr(flags, "load_network", watched)
    assert run_json("verify", tmp_path / "m.lite", "--batch-size", 2)["outputs"]["prob"]["equal"]
    assert levels == [2, 0]


def test_verify_compares_outputs_of_other_names_by_position(run_json, tmp_path):
    content = Path(DIGITS).read_bytes()
    (tmp_path / "renamed.mge").write_bytes(content.replace(b"prob", b"best"))
    result = run_json("verify", DIGITS, "--against", tmp_path / "renamed.mge")
    assert result["outputs"]["prob"]["difference"] == 0


def test_compare_sees_shapes_and_special_values():
    a = np.array([1, np.nan, np.inf], np.float32)
    assert compare(a, a, 0)["equal"]
    assert not compare(a, np.array([1, 2, np.inf]), 1)["equal"]
    assert not compare(a, a[:2], 1)["equal"]
    assert compare(np.array([1.0, 4.0]), np.array([1.5, 4.0]), 0.1) == {
        "equal": False, "difference": 0.5, "relative": 0.125, "largest": 4.0
    }  # fmt: skip
    assert compare(np.zeros((0, 3)), np.zeros((0, 3)), 0)["equal"]
