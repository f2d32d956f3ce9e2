"""What models tell of their own work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from megengine_lite._api.engine import Engine
    from megengine_lite._api.model_profiles import ModelProfile
    from megengine_lite._core.reports.model_report.report import ModelReport
    from megengine_lite._core.runtime.loans import Loans


class Measured:
    """The measurements of a model."""

    _loans: Loans
    _source: str | bytes | memoryview | None

    def _engine_and_feeds(
        self, call: str, arrays: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[Engine, dict[str, np.ndarray]]:
        raise NotImplementedError

    def report(self, /, *arrays: Any, runs: int = 10, warmup: int = 2, **named: Any) -> ModelReport:
        """Measures the model, and tells what takes how long and why.

        Parameters
        ----------
        arrays, named
            The inputs, as in a call. Without any, random values of the declared shapes are taken; sizes that are not
            declared are 1.
        runs, warmup
            How many runs are measured, and how many come before those. Times are medians.

        Returns
        -------
        ModelReport
            ``save("report.html")`` writes a page for browsers; a notebook shows it.

        Examples
        --------
        >>> from pathlib import Path
        >>> import megengine_lite
        >>> model = megengine_lite.load(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")
        >>> model.report(runs=3)
        <ModelReport digits.mge, 10 operators, ... ms>
        """
        from megengine_lite._api.model_reports import make_report

        engine, feeds = self._engine_and_feeds("report", arrays, named)
        return self._loans.beside(make_report, engine, self._source, feeds, runs, warmup)

    def profile(self, /, *arrays: Any, runs: int = 10, warmup: int = 2, **named: Any) -> ModelProfile:
        """Measures each step of a run, as the command ``profile`` does.

        Parameters
        ----------
        arrays, named
            The inputs, as in a call. Without any, random values of the declared shapes are taken; sizes that are not
            declared are 1.
        runs, warmup
            How many runs are measured, and how many come before those. Times are medians.

        Returns
        -------
        ModelProfile
            ``rows`` has the steps; ``print`` and notebooks show them as tables.

        Examples
        --------
        >>> from pathlib import Path
        >>> import megengine_lite
        >>> model = megengine_lite.load(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")
        >>> profile = model.profile(runs=3)
        >>> profile
        <ModelProfile digits.mge, ... steps, ... ms>
        >>> profile.rows[-1]["operator"]
        'Softmax'
        """
        from megengine_lite._api.model_profiles import make_profile

        engine, feeds = self._engine_and_feeds("profile", arrays, named)
        return self._loans.beside(make_profile, engine, self._source, feeds, runs, warmup)
