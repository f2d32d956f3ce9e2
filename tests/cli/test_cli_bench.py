"""The command bench: several networks at once, and what is written of every run and operator."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
from support.api_samples import DIGITS
from support.loader_samples import input_operator, operator, to_bytes

from megengine_lite import LiteNetwork
from megengine_lite._cli import parallel
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir import params
from megengine_lite.cli import main

FEW = ("--warmup-iter", 0, "--batch-size", 4)


def rows_of(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---- several networks at once ---------------------------------------------------------------------------------------


def test_streams_run_on_one_copy_of_the_weights(run_json, monkeypatch):
    loads = []
    load = LiteNetwork.load
    monkeypatch.setattr(
        LiteNetwork, "load", lambda self, *rest, **named: (loads.append(self), load(self, *rest, **named))[1]
    )
    result = run_json("bench", DIGITS, "--streams", 3, "--iter", 5, *FEW)
    assert len(loads) == 1
    assert (result["networks"], result["weights_shared"]) == (3, True)
    assert [each["runs"] for each in result["time_ms_of_each_network"]] == [5, 5, 5]
    t = result["time_ms"]
    assert t["runs"] == 15
    assert t["min"] == min(each["min"] for each in result["time_ms_of_each_network"])
    assert t["max"] == max(each["max"] for each in result["time_ms_of_each_network"])
    assert result["runs_per_second"] == pytest.approx(15e3 / result["elapsed_ms"])
    assert t["p50"] <= t["p90"] <= t["p99"] <= t["max"] <= result["elapsed_ms"]


def test_streams_run_at_the_same_time(run_json, tmp_path):
    run_json("bench", DIGITS, "--streams", 2, "--iter", 30, "--report", tmp_path, "--warmup-iter", 0)
    runs = json.loads((tmp_path / "bench.json").read_text())["iterations"]
    spans = [[(r["begin_ms"], r["begin_ms"] + r["ms"]) for r in runs if r["network"] == k] for k in range(2)]
    overlapping = [1 for a in spans[0] for b in spans[1] if a[0] < b[1] and b[0] < a[1]]
    assert [len(s) for s in spans] == [30, 30] and len(overlapping) >= 2


def test_streams_are_shown(capsys):
    assert main(["bench", str(DIGITS), "--streams", "2", "--iter", "4", *map(str, FEW)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["networks"] == "2 with one copy of the weights, 4 to 4 runs each"
    assert lines["runs"].startswith("8, ")


def test_more_streams_than_processors_can_bear_are_wrong_usage(error_of):
    """Every network takes memory: without a limit the machine would come to a stop."""
    for flag in ("--streams", "--thread"):
        assert "100000 networks: at most" in error_of("bench", DIGITS, flag, 100_000, status=2)
    assert "100000 networks: at most" in error_of("run", DIGITS, "--thread", 100_000, status=2)


def test_streams_and_thread_that_differ_are_wrong_usage(run_json, error_of):
    assert "different numbers" in error_of("bench", DIGITS, "--streams", 2, "--thread", 3, status=2)
    assert run_json("bench", DIGITS, "--streams", 2, "--thread", 2, "--iter", 1, *FEW)["networks"] == 2
    result = run_json("bench", DIGITS, "--thread", 2, "--iter", 1, *FEW)
    assert (result["networks"], result["weights_shared"]) == (2, False)


def test_duration_is_another_name_of_seconds(run_json):
    assert run_json("bench", DIGITS, "--duration", 0, *FEW)["time_ms"]["runs"] == 3


def test_peak_memory_is_that_of_the_network_and_not_of_the_times():
    """A small network runs a hundred thousand times a second. Nor is it that of the program that starts the command."""
    big = np.ones(200 << 20, np.uint8)

    def grown(runs):
        command = ["bench", DIGITS, "--iter", runs, "--input-desc", "data:1,1,8,8", "--json"]
        ended = subprocess.run(
            [sys.executable, "-m", "megengine_lite", *map(str, command)], capture_output=True, check=True
        )
        result = json.loads(ended.stdout)
        assert result["time_ms"]["runs"] == runs
        return result["peak_memory_bytes"] - result["memory_before_bytes"]

    few, many = grown(1100), grown(150_000)
    assert 0 < few < big.nbytes / 2 and abs(many - few) < 2 << 20


# ---- files ----------------------------------------------------------------------------------------------------------


def test_report_has_every_run_and_every_operator(run_json, tmp_path):
    folder = tmp_path / "new" / "folder"
    result = run_json("bench", DIGITS, "--iter", 7, "--report", folder, *FEW)
    names = ["bench.json", "iterations.csv", "operators.csv"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert result["written"] == {str(folder / n): (folder / n).stat().st_size for n in names}
    content = json.loads((folder / "bench.json").read_text())
    assert content["time_ms"] == result["time_ms"] and "written" not in content

    runs = content["iterations"]
    assert len(runs) == 7 and runs[0]["begin_ms"] == 0
    assert sum(r["ms"] for r in runs) == pytest.approx(result["time_ms"]["total"])
    assert all(a["begin_ms"] + a["ms"] <= b["begin_ms"] for a, b in pairwise(runs))
    read = [{k: float(v) for k, v in row.items()} for row in rows_of(folder / "iterations.csv")]
    assert read == runs

    operators, rows = content["operators"], rows_of(folder / "operators.csv")
    assert [o["operator"] for o in operators][-1] == "Softmax" and len(rows) == len(operators)
    for row, step in zip(rows, operators, strict=True):
        assert (row["operator"], row["name"], row["algorithm"]) == (step["operator"], step["name"], step["algorithm"])
        assert [float(row[k]) for k in ("min_ms", "ms", "max_ms")] == [step[k] for k in ("min_ms", "ms", "max_ms")]
        times = sorted(step["times_ms"])
        assert len(times) == 10 and step["ms"] == pytest.approx((times[4] + times[5]) / 2)
        assert (times[0], times[-1]) == (step["min_ms"], step["max_ms"])
    assert rows[-1]["outputs"] == "4x10"


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"),
        ("\t=1", "\\t=1"),
        ("\N{FULLWIDTH EQUALS SIGN}1", "'\N{FULLWIDTH EQUALS SIGN}1"),
        ("a;=1", "a;'=1"),
        ("a,@b", "a,'@b"),
        ("a=1-2", "a=1-2"),
        ("conv-1", "conv-1"),
        ("\x1b[2J<script>\n", "\\x1b[2J<script>\\n"),
    ],
)
def test_names_in_tables_are_only_text(run_json, tmp_path, name, cell):
    """That of a result, or of an operator whose result has none."""
    for of_results in ({1: name}, {}):
        check_cell(run_json, tmp_path, cell, name, of_results)


def check_cell(run_json, tmp_path, cell, name, of_results):
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (2, 3))], [(1, "")], of_results)
    record.operators.append(operator("Softmax", (0,), (1,), params.Softmax(axis=1)))
    record.operators[-1].name = name
    (tmp_path / "m.mge").write_bytes(to_bytes(record))
    run_json("bench", tmp_path / "m.mge", "--iter", 1, "--warmup-iter", 0, "--report", tmp_path)
    assert [row["name"] for row in rows_of(tmp_path / "operators.csv")] == [cell]


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_measured(error_of, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(LiteNetwork, "load", lambda *_: pytest.fail("the model is loaded"))
    assert "the folder cannot be made" in error_of("bench", DIGITS, "--report", tmp_path / "file" / "in")
    assert "the folder cannot be made" in error_of("bench", DIGITS, "--report", tmp_path / "file")


class Network:
    """The name of a network, for work that needs none."""


@pytest.mark.parametrize("place", [0, 1, 2])
def test_others_end_when_one_of_several_networks_fails(place):
    ended = [0, 0, 0]
    together = threading.Barrier(3, timeout=10)

    def work(k, _):
        together.wait()
        for count in itertools.count():
            ended[k] = count
            if k == place and count == 5:
                raise KeyError("fault")
            yield

    with pytest.raises(KeyError, match="fault"):
        parallel.on_each([Network()] * 3, work)
    assert ended[place] == 5


@pytest.mark.parametrize("begins", [0, 1])
def test_an_interrupt_ends_all_networks(begins):
    """Ctrl-C while the calling thread runs its network, and while it waits for the others."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in the background of a shell
    threads = threading.active_count()

    def work(k, _):
        if k == 0 and begins == 1:
            return
        for count in itertools.count():
            if k == begins and count == 5:
                os.kill(os.getpid(), signal.SIGINT)
            yield

    with pytest.raises(KeyboardInterrupt):
        parallel.on_each([Network()] * 2, work)
    assert threading.active_count() == threads
