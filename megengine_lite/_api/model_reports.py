"""Reports on networks; imported when the first is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from megengine_lite._api.arguments import checked_runs
from megengine_lite._api.loading import name_of
from megengine_lite._core.reports.model_report import collect
from megengine_lite._core.reports.model_report.report import ModelReport
from megengine_lite._core.system.late_import import late_import
from megengine_lite._core.system.own_faults import own_faults
from megengine_lite._records import replace
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError

if TYPE_CHECKING:
    import numpy as np

    from megengine_lite._api.engine import Engine
    from megengine_lite._core.formats.loaded_model import LoadedModel


def make_report(
    engine: Engine, source: str | bytes | memoryview | None, feeds: Mapping[str, np.ndarray], runs: Any, warmup: Any
) -> ModelReport:
    """The report on a network's model. A model that does not run gets one, too."""
    runs, warmup = checked_runs("a report", runs, warmup)
    name, size = name_of(source)
    sources = (source,) if isinstance(source, str) else ()
    session = engine.explained_session(feeds)
    with own_faults("the report"):
        try:
            return ModelReport(collect.with_runs(session, name, runs, warmup, size), sources=sources)
        except NOT_ABOUT_THE_MODEL:
            raise
        except LiteError as error:
            # What a report says is for others, too: not where the file lies here.
            problem = str(error).removeprefix(f"{source}: " if isinstance(source, str) else "")
            model = _with_file_graph(session.model, source)
            found = collect.without_run(model, name, session.input_shapes(), problem, size)
            return ModelReport(found, sources=sources)


def _with_file_graph(model: LoadedModel, source: str | bytes | memoryview | None) -> LoadedModel:
    """A model that does not run, with the graph of its file if that is another: an ONNX file is read again."""
    has_other = model.container == "onnx" and model.as_in_file is None
    if not has_other or model.is_secret or model.package is not None or source is None:
        return model
    with late_import():
        from megengine_lite._core.formats.load import load_model

    try:
        found = load_model(source, check=False)
    except LiteError:  # the file has gone since it was loaded
        return model
    return replace(model, file_graph=found.file_graph or found.listed_graph)
