"""All tables of algorithms by their kind, and the check of what a policy forces."""

from __future__ import annotations

from typing import Any

from megengine_lite._core.cpu.algorithms.algorithm import AlgorithmTable
from megengine_lite._core.cpu.algorithms.convolution import CONV_F32, CONV_INT8
from megengine_lite._core.cpu.algorithms.matmul import MATMUL_F32
from megengine_lite._core.session_config import AlgoPolicy
from megengine_lite._core.system.suggest import choices
from megengine_lite.errors import LiteValueError

TABLES: dict[str, AlgorithmTable[Any]] = {table.kind: table for table in (CONV_F32, CONV_INT8, MATMUL_F32)}


def check_forced(policy: AlgoPolicy) -> None:
    """Checks the names in ``policy.forced``, also of algorithms that a model has no node for.

    Raises
    ------
    LiteValueError
        There is no such table, or no such algorithm in it.
    """
    for kind, name in policy.forced.items():
        if kind not in TABLES:
            raise LiteValueError(f"unknown operator {kind!r} in AlgoPolicy.forced {choices(kind, TABLES)}")
        TABLES[kind][name]  # raises
