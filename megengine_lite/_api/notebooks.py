"""What notebooks show of objects: small tables in which everything is text, whoever made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._api.loading import name_of
from megengine_lite._core.reports.text_table import MOST_AT_END, shortened
from megengine_lite._core.system.memory_limit import describe_bytes
from megengine_lite.errors import printable

if TYPE_CHECKING:
    from megengine_lite._api.engine import Engine
    from megengine_lite.tensor import LiteTensor

_MOST_VALUES = 8


def facts_table(facts: Mapping[str, str]) -> str:
    """A row for each fact, the title in front."""
    rows = (f"<tr><th>{_cell(title)}</th><td>{_cell(fact)}</td></tr>" for title, fact in facts.items())
    return f"<table>{''.join(rows)}</table>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a line of titles."""
    lines = [f"<tr>{''.join(f'<th>{_cell(title)}</th>' for title in header)}</tr>"]
    lines += (f"<tr>{''.join(f'<td>{_cell(shortened(text, MOST_AT_END))}</td>' for text in row)}</tr>" for row in rows)
    return f"<table>{''.join(lines)}</table>"


def _cell(text: str) -> str:
    return escape(printable(text))


def form_text(dtype: object, shape: Sequence[object]) -> str:
    """Element type and shape of an array.

    >>> form_text(np.dtype("float32"), (1, 3))
    'float32[1, 3]'
    """
    return f"{dtype}[{', '.join(map(str, shape))}]"


def first_values(array: np.ndarray) -> str:
    """The first elements, and whether there are more.

    >>> first_values(np.array([[0.25, 2.0]]))
    '0.25 2'
    """
    values = " ".join(f"{v:.4g}" if array.dtype.kind == "f" else str(v) for v in array.flat[:_MOST_VALUES].tolist())
    return f"{values} ..." if array.size > _MOST_VALUES else values


def tensor_facts(tensor: LiteTensor) -> dict[str, str]:
    """What is shown of a tensor. A look copies nothing from a device."""
    facts = {
        "form": _form_of(tensor),
        "memory": f"{describe_bytes(tensor._nbytes)} of {tensor._device.name} {tensor.device_id}",
    }
    if tensor._storage is not None and tensor._on_host:
        facts["first values"] = first_values(tensor._array())
    return facts


def network_facts(engine: Engine | None, source: str | bytes | memoryview | None) -> dict[str, str]:
    """What is shown of a network."""
    if engine is None:
        return {"model": "none yet: call load"}
    engine.expect_outputs()
    inputs = (f"{name}: {_form_of(port.tensor)}" for name, port in engine.inputs.items())
    outputs = (f"{name}: {_form_of(port.tensor)}" for name, port in engine.outputs.items())
    return {
        "model": name_of(source)[0],
        "inputs": ", ".join(inputs),
        "outputs": ", ".join(outputs),
        "device": f"{engine._device.name}, {engine.session.config.threads} threads",
        "precision": engine.session.config.precision,
        "memory": describe_bytes(sum(n for use, n in engine.memory_usage().items() if use != "cache")),
    }


def _form_of(tensor: LiteTensor) -> str:
    layout = tensor.layout
    return form_text(np.dtype(layout.dtype), layout.shapes)
