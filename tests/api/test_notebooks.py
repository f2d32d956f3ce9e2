"""What notebooks show of networks, tensors and results."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, close, loaded, run
from support.loader_samples import add_record, to_bytes
from support.onnx_models import bytes_of_text

import megengine_lite
from megengine_lite import LiteLayout, LiteNetwork, LiteTensor
from megengine_lite.model import Outputs

EVIL = 'a<script>alert("&")</script>\x1b[2J'
TEXT = 'a<script>alert("&")</script>\\x1b[2J'


class Cells(HTMLParser):
    """The texts of a table, row by row; other elements are a failure."""

    def __init__(self, page: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("table", "tr", "th", "td") and not attrs
        if tag == "tr":
            self.rows.append([])
        elif tag != "table":
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.rows[-1][-1] += data


def facts(thing: Any) -> dict[str, str]:
    return dict(Cells(thing._repr_html_()).rows)


def test_a_network_shows_what_it_runs():
    network = LiteNetwork()
    assert facts(network) == {"model": "none yet: call load"}
    network.threads_number = 2
    network.load(DIGITS)
    assert facts(network) == {
        "model": "digits.mge",
        "inputs": "data: float32[360, 1, 8, 8]",
        "outputs": "prob: float32[360, 10]",
        "device": "LITE_CPU, 2 threads",
        "precision": "float32",
        "memory": "0 B",
    }
    run(network, IMAGES[:3])
    assert facts(network)["inputs"] == "data: float32[3, 1, 8, 8]"
    assert facts(network)["outputs"] == "prob: float32[3, 10]"
    usage = network.memory_usage
    kib = (usage["weights"] + usage["arena"] + usage["scratch"] + usage["outputs"]) / 1024
    assert facts(network)["memory"] == f"{kib:.1f} KiB"
    assert facts(loaded(DIGITS.read_bytes()))["model"] == "model"


def test_a_look_at_a_network_changes_no_result():
    network = loaded()
    network._repr_html_()
    first = run(network).copy()
    network._repr_html_()
    assert close(run(network), first)


def test_a_tensor_shows_its_form_and_first_values():
    tensor = LiteTensor(LiteLayout([2, 5], "float32"))
    tensor.set_data_by_copy(np.arange(10, dtype=np.float32).reshape(2, 5) / 4)
    assert facts(tensor) == {
        "form": "float32[2, 5]", "memory": "40 B of LITE_CPU 0", "first values": "0 0.25 0.5 0.75 1 1.25 1.5 1.75 ..."
    }  # fmt: skip
    window = tensor.slice([0, 1], [2, 3])
    assert facts(window)["first values"] == "0.25 0.5 1.5 1.75"
    assert facts(LiteTensor(LiteLayout([3], "int8"), device_id=4)) == {
        "form": "int8[3]", "memory": "3 B of LITE_CPU 4", "first values": "0 0 0"
    }  # fmt: skip
    assert facts(LiteTensor())["form"] == "float32[]"


def test_a_tensor_of_a_device_is_not_copied_for_a_look(device, monkeypatch):
    tensor = LiteTensor(LiteLayout([3], "int8"), device.type)
    tensor.fill_zero()
    monkeypatch.setattr(device, "read", lambda *_: pytest.fail("it is copied"))
    assert facts(tensor) == {"form": "int8[3]", "memory": f"3 B of {device.name} 0"}


def test_results_are_shown_in_a_table():
    outputs = Outputs({"p": np.array([[0.125, 1e-9]]), "q": np.arange(20)})
    assert Cells(outputs._repr_html_()).rows == [
        ["output", "form", "first values"],
        ["p", "float64[1, 2]", "0.125 1e-09"],
        ["q", "int64[20]", "0 1 2 3 4 5 6 7 ..."],
    ]
    assert Cells(Outputs({"s": np.array(2.5, np.float32)})._repr_html_()).rows[1] == ["s", "float32[]", "2.5"]


def test_one_endless_name_makes_no_page_as_wide():
    """Neither in results nor in profiles, which are shown as text, too."""
    name = "begin" + "x" * 10_000 + "end"
    profile = megengine_lite.load(bytes_of_text("(float[2] x) => (float[2] y) { y = Neg(x) }")).profile(runs=1)
    profile.rows[0]["name"] = name
    for text in (str(profile), profile._repr_html_(), Outputs({name: np.zeros(2)})._repr_html_()):
        assert max(map(len, re.split(r"[\n<>]", text))) < 300
        assert re.search(r"beginx+\.\.\.x+end", text)


def test_names_are_text_everywhere():
    model = to_bytes(add_record((EVIL, "b")))
    network = loaded(model)
    for thing in (network, megengine_lite.load(model)):  # the original orders inputs by a hash of their names
        shown = facts(thing)["inputs"].split(", ")
        assert sorted(", ".join(shown[k : k + 2]) for k in (0, 2)) == [f"{TEXT}: float32[2, 3]", "b: float32[2, 3]"]
    outputs = Outputs({EVIL: np.zeros(1)})
    assert Cells(outputs._repr_html_()).rows[1][0] == TEXT
    for thing in (outputs, megengine_lite.load(model), network, network.get_io_tensor(EVIL)):
        assert "\x1b" not in repr(thing)
