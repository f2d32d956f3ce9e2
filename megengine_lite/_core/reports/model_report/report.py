"""A report as an object: saved, shown in a notebook, put beside another one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from megengine_lite._core.reports.units import counted
from megengine_lite._core.system.files import check_other_file, path_to_write, replace_file
from megengine_lite.errors import LiteTypeError, LiteValueError, brief, os_error, printable

_HEIGHT_IN_NOTEBOOKS = 820


def _plain(value: Any) -> Any:
    """Plain types in which text has nothing that a terminal obeys, and every number is one that JSON has."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _two_names(names: Any) -> tuple[str, str]:
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise LiteTypeError(f"the names of two reports are two texts: names=('before', 'after'), not {brief(names)}")
    if len(names) != 2:
        raise LiteValueError(f"two reports have two names: names=('before', 'after'), not {brief(names)}")
    return names[0], names[1]


class ModelReport:
    """A report on a model, or on two side by side.

    Made by :meth:`Model.report <megengine_lite.model.Model.report>` and
    :meth:`LiteNetwork.report <megengine_lite.LiteNetwork.report>`. In a notebook it shows itself.

    Attributes
    ----------
    content : dict
        Everything that it says, as plain types: ``reports``, a list of one or two; with two, ``comparison``.
    """

    def __init__(self, *reports: Mapping[str, Any], sources: tuple[str, ...] = ()):
        self._sources = sources  # the files of the models
        self.content: dict[str, Any] = {"reports": [_plain(report) for report in reports]}
        if len(reports) == 2:
            from megengine_lite._core.reports.model_report.comparison import compare_reports

            self.content["comparison"] = compare_reports(*self.content["reports"])

    def beside(self, other: ModelReport, names: tuple[str, str] | None = None) -> ModelReport:
        """One report with this one and another side by side, and what differs; ``names`` is what they are called.

        Two of the same name are told apart by (A) and (B) behind it.

        Raises
        ------
        LiteTypeError
            ``other`` is no report, or ``names`` are not texts.
        LiteValueError
            One of them has two models already, or there are not two names.
        """
        if not isinstance(other, ModelReport):
            raise LiteTypeError(f"beside takes another report, as model.report() makes it, not {brief(other)}")
        both = [*self.content["reports"], *other.content["reports"]]
        if len(both) != 2:
            raise LiteValueError("two reports stand side by side, not more: take those of one model each")
        if names is not None:
            both = [{**report, "name": name} for report, name in zip(both, _two_names(names), strict=True)]
        if both[0]["name"] == both[1]["name"]:
            both = [{**report, "name": f"{report['name']} ({which})"} for report, which in zip(both, "AB", strict=True)]
        return ModelReport(*both, sources=(*self._sources, *other._sources))

    def add_layers(self, found: Mapping[str, Any]) -> None:
        """Adds what :func:`layers.compare_layers` has found."""
        self.content["layers"] = _plain(found)

    def to_html(self) -> str:
        """A page for browsers, which needs nothing else."""
        from megengine_lite._core.reports.model_report.html import to_html

        return to_html(self.content)

    def to_markdown(self) -> str:
        """Tables as Markdown."""
        from megengine_lite._core.reports.model_report.markdown import to_markdown

        return to_markdown(self.content)

    def to_json(self) -> str:
        """:attr:`content` as JSON."""
        return json.dumps(self.content, allow_nan=False, indent=1)

    def save(self, path: str | os.PathLike[str], form: str | None = None) -> None:
        """Writes the report to a file.

        Parameters
        ----------
        path
            The file; an existing one is replaced.
        form
            ``"html"``, ``"md"`` or ``"json"``. By default what the name ends in; ``"html"`` for other names.

        Raises
        ------
        LiteOSError
            The file cannot be written.
        LiteValueError
            It is the file of the model, or a report has no such form.
        """
        name = path_to_write(path)
        for source in self._sources:
            check_other_file(name, source)
        text = form_of(name, form)(self)
        try:
            replace_file(name, [text.encode()])
        except OSError as error:
            raise os_error(error, f"the report cannot be written to {name}: {error.strerror}", name) from error

    def __repr__(self) -> str:
        shown = []
        for report in self.content["reports"]:
            ms = f"{report['ms']['median']:.3f} ms" if "ms" in report else f"does not run: {report['problem']}"
            count = sum(node["kind"] == "operator" for node in report["nodes"])
            shown.append(f"{report['name']}, {counted(count, 'operator')}, {ms}")
        return f"<ModelReport {'; '.join(shown)}>"

    def _repr_html_(self) -> str:
        # In a frame of its own, neither the page nor the notebook can change the other.
        return (
            f'<iframe sandbox="allow-scripts" width="100%" height="{_HEIGHT_IN_NOTEBOOKS}" '
            f'style="border: 0" srcdoc="{escape(self.to_html())}"></iframe>'
        )


FORMS: dict[str, Callable[[ModelReport], str]] = {
    "html": ModelReport.to_html,
    "md": ModelReport.to_markdown,
    "json": ModelReport.to_json,
}


def form_of(path: str, form: str | None) -> Callable[[ModelReport], str]:
    """What writes the form of a file."""
    if form is None:
        ending = os.path.splitext(path)[1].lower().lstrip(".")
        form = {"markdown": "md", "htm": "html", "": "html"}.get(ending, ending)
        if form not in FORMS:
            raise LiteValueError(f"a report is .html, .md or .json, not {brief(path)}: choose a name that ends so")
    if form not in FORMS:
        raise LiteValueError(f"a report has one of the forms {', '.join(FORMS)}, not {brief(form)}")
    return FORMS[form]
