"""The enumerations have the original's names and numbers."""

import pytest

from megengine_lite import struct

MEMBERS = {
    "LiteBackend": {"LITE_DEFAULT": 0},
    "LiteDeviceType": {
        "LITE_CPU": 0,
        "LITE_CUDA": 1,
        "LITE_ATLAS": 3,
        "LITE_NPU": 4,
        "LITE_CAMBRICON": 5,
        "LITE_DEVICE_DEFAULT": 7,
    },
    "LiteDataType": {
        "LITE_FLOAT": 0,
        "LITE_HALF": 1,
        "LITE_INT": 2,
        "LITE_INT16": 3,
        "LITE_INT8": 4,
        "LITE_UINT8": 5,
        "LITE_UINT16": 6,
    },
    "LiteTensorPhase": {"LITE_IO": 0, "LITE_INPUT": 1, "LITE_OUTPUT": 2},
    "LiteIOType": {"LITE_IO_VALUE": 0, "LITE_IO_SHAPE": 1},
    "LiteAlgoSelectStrategy": {
        "LITE_ALGO_HEURISTIC": 1,
        "LITE_ALGO_PROFILE": 2,
        "LITE_ALGO_REPRODUCIBLE": 4,
        "LITE_ALGO_OPTIMIZED": 8,
    },
    "LiteLogLevel": {"DEBUG": 0, "INFO": 1, "WARN": 2, "ERROR": 3},
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members_and_numbers(name):
    assert {m.name: int(m) for m in getattr(struct, name)} == MEMBERS[name]


def test_strategies_combine_to_an_int():
    both = struct.LiteAlgoSelectStrategy.LITE_ALGO_PROFILE | struct.LiteAlgoSelectStrategy.LITE_ALGO_OPTIMIZED
    assert both == 10


def test_all_names_are_exported():
    assert sorted(struct.__all__) == sorted(MEMBERS)
