"""Parameter tables."""

import copy
import json
import pickle

import numpy as np
import pytest
from support.loader_samples import SHARED

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.params.elemwise import OF_OTHER_FORMATS
from megengine_lite._core.ir.params.import_index import CODES
from megengine_lite._records import FrozenRecordError

SPECIFICATION = SHARED.parent / "spec" / "opr_params.json"


def test_table_has_defaults_of_the_format():
    pooling = params.Pooling()
    assert (pooling.mode, pooling.window_h, pooling.stride_w, pooling.pad_h) == (params.PoolingMode.MAX, 2, 2, 0)
    assert params.Resize().format == params.ConvolutionFormat.NHWC
    assert params.Reduce().axis == params.INT_MAX
    assert params.DType().dtype == DTypeCode.BYTE


def test_float32_default_is_rounded_as_a_file_stores_it():
    assert params.LRN().alpha == float(np.float32(1e-4))
    assert params.BN().epsilon == 1e-4


def test_comparison_is_by_table_and_values():
    assert params.TQT(qmin=-4) == params.TQT(qmin=-4)
    assert params.TQT(qmin=-4) != params.TQT(qmin=-5)
    assert params.TQT(qmin=-4) != params.LSQ(qmin=-4)
    assert hash(params.Dimshuffle(pattern=(1, 0))) == hash(params.Dimshuffle(pattern=(1, 0)))


def test_repr_shows_what_is_not_default():
    shown = repr(params.Pooling(mode=params.PoolingMode.AVERAGE, window_h=3))
    assert shown == "Pooling(mode=AVERAGE, window_h=3)"


def test_table_is_not_changed_but_replaced():
    axis = params.Axis(axis=1)
    with pytest.raises(FrozenRecordError):
        axis.axis = 2
    with pytest.raises(FrozenRecordError):
        del axis.axis
    assert axis.replace(axis=2).axis == 2


def test_copies_and_pickles_of_a_table_are_equal_to_it():
    table = params.Pooling(mode=params.PoolingMode.AVERAGE, window_h=3)
    for other in (copy.copy(table), copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert other == table and type(other) is params.Pooling


def test_enumerations_of_two_generations_of_formats_differ():
    assert params.ConvolutionFormat.CHWN4 == 15
    assert params.CorrelationFormat.CHWN4 == 18


@pytest.mark.shared
@pytest.mark.skipif(not SPECIFICATION.exists(), reason="the specification is not there")
def test_tables_agree_with_the_specification():
    specified = json.loads(SPECIFICATION.read_text())
    kinds = {"uint8": "bool"}
    dtype_names = {c.name.replace("_", "").lower(): c for c in DTypeCode}
    checked = 0
    for code, name in CODES.items():
        table = params.table_of(code)
        assert table is getattr(params, name)
        if not table.layout or table.__name__ in ("Dimshuffle", "AxisAddRemove", "IndexDescMaskDump"):
            continue
        entry = specified[table.__name__]
        assert entry["union_id"] == code
        for ours, theirs in zip(table.layout, entry["fields"], strict=True):
            assert (ours.name, ours.id) == (theirs["name"], theirs["id"])
            assert ours.kind == kinds.get(theirs["fb_type"], theirs["fb_type"])
            default = theirs["default"]
            if theirs["type"] == "dtype":
                default = dtype_names[default.lower()]
            if ours.kind == "float32":
                default = float(np.float32(default))
            assert ours.default == default, (table, ours)
            if ours.enum is not None and ours.kind == "uint32":
                assert {e.name: e.value for e in ours.enum if e not in OF_OTHER_FORMATS} == theirs["enum"]
            checked += 1
    assert checked == 304
