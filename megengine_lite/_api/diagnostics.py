"""The part of :class:`LiteNetwork` that reports on its work: profiles, dumps, memory."""

from __future__ import annotations

import errno
import os
import weakref
from typing import TYPE_CHECKING, Any

from megengine_lite._api.engine import Engine, EngineOwner
from megengine_lite._core.system.files import check_other_file, path_to_write, replace_file
from megengine_lite.errors import LiteError, LiteValueError, brief, os_error

if TYPE_CHECKING:
    from megengine_lite._api.options import LiteConfig, LiteOptions
    from megengine_lite._core.device.plan import StepTime
    from megengine_lite._core.reports.io_dump import BinaryDump, TextDump
    from megengine_lite._core.reports.model_report.report import ModelReport
    from megengine_lite._core.reports.original_names import Listed
    from megengine_lite._core.reports.trace import Tracer

_PROFILE_FORMS = ("megengine", "chrome")


def _write_json(path: str, content: Any) -> None:
    import json

    try:
        replace_file(path, [json.dumps(content, allow_nan=False).encode()])
    except OSError as error:
        raise os_error(error, f"{path} cannot be written: {error.strerror}", path) from error


def _file_layout(options: LiteOptions) -> str:
    """The layout that the options ask for in a written model.

    Raises
    ------
    LiteValueError
        They ask for more than one.
    """
    from megengine_lite._core.compile.transform import LAYOUTS

    asked = [name for name in LAYOUTS if getattr(options, f"enable_{name}", False)]
    if len(asked) > 1:
        raise LiteValueError(f"a model is written in one layout; the options ask for {' and '.join(asked)}")
    return asked[0] if asked else "nchw"


class Profile:
    """Measures each run; ``wait`` writes the file."""

    def __init__(self, path: str, form: str):
        try:
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            os.stat(os.path.join(os.path.dirname(os.path.abspath(path)), ""))  # an error if it is no directory
        except OSError as error:
            raise os_error(error, f"the profile cannot be written to {path}: {error.strerror}", path) from error
        self._path = path
        self._form = form
        self._listed: list[Listed] | None = None
        self.times: list[StepTime] | None = None  # of the last run, if there was one

    def run(self, engine: Engine) -> None:
        """Runs the session and measures every step."""
        if self._listed is None:  # before the graph is freed, if it is to be
            self._listed = list_operators(engine)
        self.times = engine.session.run_profiled()

    def write(self) -> None:
        from megengine_lite._core.reports.profile import FORMS

        _write_json(self._path, FORMS[self._form](self.times or [], self._listed or []))


def list_operators(engine: Engine) -> list[Listed]:
    """The operators of a network's model, under the original's names and numbers."""
    from megengine_lite._core.reports import original_names

    return original_names.list_operators(engine.model.graph, engine.model.has_operator_names)


class Dump:
    """Computes all variables of a network after each run and writes them."""

    def __init__(self, form: TextDump | BinaryDump):
        self._form = form
        self._tracer: Tracer | None = None
        weakref.finalize(self, form.finish)  # when it is replaced, its network goes, or the program ends

    def write(self, engine: Engine) -> None:
        from megengine_lite._core.reports.trace import Tracer

        if self._tracer is None:
            session = engine.session
            self._tracer = Tracer(engine.model_with_graph(), session.config, session.device, session.device_id)
        inputs = {name: port.tensor.to_numpy() for name, port in engine.inputs.items()}
        lazy = engine.settings.options.comp_node_seq_record_level > 0
        self._form.write(self._tracer.run(inputs), lazy)


class Diagnostics(EngineOwner):
    """Methods of networks that write files for people and tools."""

    _profile: Profile | None = None
    _dump: Dump | None = None

    _transform = False
    _source: str | bytes | memoryview | None
    _source_config: LiteConfig

    def _model_chunks(self, layout: str) -> list[Any]:
        raise NotImplementedError

    def _path_to_write(self, path: str | os.PathLike[str]) -> str:
        """A path as text, if it does not lead to the file of the loaded model."""
        source, name = self._source, path_to_write(path)
        if isinstance(source, str):
            check_other_file(name, source)
        return name

    def _tell_engine(self) -> None:
        if self._engine is not None:
            self._engine.observe(self._profile, self._dump)

    def enable_profile_performance(self, profile_file: str | os.PathLike[str], *, form: str = "megengine") -> None:
        """Measures every step of each forward; :meth:`wait` writes the last run's times to a file.

        Parameters
        ----------
        profile_file
            Replaced each time.
        form
            ``"megengine"``: JSON that MegEngine's tools analyse. ``"chrome"``: a trace that Perfetto opens.

        Raises
        ------
        LiteError
            No file can be written there.
        """
        if not isinstance(form, str) or form not in _PROFILE_FORMS:
            raise LiteValueError(f"a profile has one of the forms {', '.join(_PROFILE_FORMS)}, not {brief(form)}")
        self._profile = Profile(self._path_to_write(profile_file), form)
        self._tell_engine()

    def io_txt_dump(self, txt_file: str | os.PathLike[str]) -> None:
        """Lets each forward append every operator's results to a text file. An empty file is created at once.

        The operators are computed one by one, as the model has them, in addition to the optimized run. A network has
        one dump at a time: the last one set.

        Raises
        ------
        LiteError
            The file cannot be written.
        """
        from megengine_lite._core.reports.io_dump import TextDump

        self._dump = Dump(TextDump(self._path_to_write(txt_file)))
        self._tell_engine()

    def io_bin_dump(self, bin_dir: str | os.PathLike[str]) -> None:
        """Lets each forward write every operator's results into a directory, one file per variable.

        Otherwise like :meth:`io_txt_dump`. The directory is created if it does not exist.
        """
        from megengine_lite._core.reports.io_dump import BinaryDump

        self._dump = Dump(BinaryDump(path_to_write(bin_dir)))
        self._tell_engine()

    def get_static_memory_alloc_info(self, log_dir: str | os.PathLike[str] = "logs/test") -> None:
        """Writes where the plan for the present input shapes puts its tensors.

        Parameters
        ----------
        log_dir
            Gets ``graph.json`` and ``StaticMemoryInfo.json``; created if it does not exist.
        """
        engine = self._loaded("get_static_memory_alloc_info")
        directory = path_to_write(log_dir)
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise os_error(error, f"the directory {directory} cannot be made: {error.strerror}", directory) from error
        from megengine_lite._core.reports.memory_map import graph_object, static_memory_object

        plans = engine.plans_for_inputs()
        listed = list_operators(engine)
        _write_json(os.path.join(directory, "graph.json"), graph_object(plans, listed))
        _write_json(os.path.join(directory, "StaticMemoryInfo.json"), static_memory_object(plans, listed))

    def report(self, *, runs: int = 10, warmup: int = 2) -> ModelReport:
        """Measures the network for its present inputs, and tells what takes how long and why.

        Parameters
        ----------
        runs
            How many runs are measured; times are medians.
        warmup
            How many runs come before those.

        Returns
        -------
        ModelReport
            ``save("report.html")`` writes a page for browsers; a notebook shows it. A model that cannot run gets a
            report that says why.

        Notes
        -----
        The runs are those of a plan of their own. Outputs and a job of this network are not touched.
        """
        from megengine_lite._api.model_reports import make_report

        engine = self._loaded("report")
        engine.model_with_graph()
        return make_report(engine, self._source, {}, runs, warmup)

    def prepare(self, path: str | os.PathLike[str]) -> None:
        """Writes a prepared file for the present input shapes, which :meth:`load` takes as ``prepared``.

        :meth:`Model.prepare <megengine_lite.model.Model.prepare>` explains it. A network that loads it must have the
        settings of this one.

        Raises
        ------
        LiteError
            The model cannot be prepared.
        """
        from megengine_lite._api.preparing import write_prepared_file

        engine = self._loaded("prepare")
        assert self._source is not None
        write_prepared_file(engine, self._source, self._source_config, {}, path_to_write(path))

    def enable_global_layout_transform(self) -> None:
        """Allows :meth:`dump_layout_transform_model`. To be called before ``load``.

        For running a model it has no effect: layouts are always chosen for the whole graph.
        """
        self._require_not_loaded("enable_global_layout_transform")
        self._transform = True

    def dump_layout_transform_model(self, model_file: str | os.PathLike[str]) -> None:
        """Writes the model, optimized, as a plain file of the second generation (``.mge``), which the original loads.

        Batch norms, scales, biases and activations are merged into the convolutions before them, and nodes that depend
        only on weights are replaced by their results. With ``enable_nchw44``, ``enable_nchw44_dot`` or
        ``enable_nchw88`` in the options, convolutions and the operators between them work in that layout, with
        conversions where they meet others. The file is neither packed nor encrypted. Names of inputs and outputs are
        kept, and the model can still run at other batch sizes and image sizes.

        Raises
        ------
        LiteError
            :meth:`enable_global_layout_transform` was not called before ``load``, or the file cannot be written.
        LiteValueError
            The options ask for two layouts.
        """
        engine = self._loaded("dump_layout_transform_model")
        if not self._transform:
            raise LiteError("call enable_global_layout_transform before load, then the model can be dumped")
        path = self._path_to_write(model_file)
        try:
            replace_file(path, self._model_chunks(_file_layout(engine.settings.options)))
        except OSError as error:
            raise os_error(error, f"the model cannot be written to {path}: {error.strerror}", path) from error

    @property
    def memory_usage(self) -> dict[str, int]:
        """Bytes that the network holds, by purpose.

        ``weights``: as the kernels read them. ``arena``: intermediate results. ``scratch``: working memory of the
        threads. ``outputs``: those of all plans that are kept. ``cache``: the part of the weights that is derived from
        those in the file (folded, packed); networks that share weights share it.
        """
        return self._loaded("memory_usage").memory_usage()
