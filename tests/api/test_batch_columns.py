"""Columns of batches in every form that tools for data have: their rows are checked, and errors name the row."""

import numpy as np
import pytest
from support.api_samples import ADD, DIGITS, IMAGES, PROB, close
from support.onnx_models import bytes_of_text
from test_batch import WIDE

from megengine_lite.batch import Predictor
from megengine_lite.errors import LiteTypeError, LiteValueError, ShapeError

X = IMAGES[:6]


@pytest.mark.parametrize("kept", [[1, 2], 3, np.arange(9), np.float32(1)])
def test_kept_columns_have_a_row_for_each_row(kept):
    predict = Predictor(DIGITS, keep=["id"])
    with pytest.raises(ShapeError, match=r"column 'id' of the batch has (2|9|no) rows, the first column 6"):
        predict({"data": X, "id": kept})
    assert predict({"data": X, "id": list("abcdef")})["id"] == list("abcdef")


@pytest.mark.parametrize("wrong", [None, "x"])
@pytest.mark.parametrize("made", [list, np.asarray])
def test_the_row_with_no_number_is_told_wherever_it_is(made, wrong):
    rows = X.tolist()
    rows[4][0][3][2] = wrong
    batch = rows if made is list else np.array(rows, object)
    with pytest.raises(LiteTypeError, match=r"^row 4 of the batch holds"):
        Predictor(DIGITS)({"data": batch})


def test_numbers_may_be_objects():
    assert close(Predictor(DIGITS)({"data": X.astype(object)})["prob"], PROB[:6])


def arrow_columns(pa):
    """Arrays of Arrow's with a null, or a null inside, in row 1; the same without; and as numbers."""
    rows, full = [[1.0, 2.0], [3.0, None]], [[1.0, 2.0], [3.0, 4.0]]
    kinds = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view]
    for kind in kinds:
        yield pa.array(rows, kind(pa.float64())), pa.array(full, kind(pa.float64()))
        yield pa.array([[r] for r in rows], pa.list_(kind(pa.float64()))), None
    places, lengths = pa.array([0, 1]), pa.array([1, 2], pa.int32())
    yield pa.DictionaryArray.from_arrays(places, pa.array([1.5, None])), None
    yield pa.RunEndEncodedArray.from_arrays(lengths, pa.array([1.0, None])), None


def test_nulls_of_arrow_are_told_wherever_they_are():
    pa = pytest.importorskip("pyarrow")
    predict = Predictor(bytes_of_text(WIDE))
    for bad, good in arrow_columns(pa):
        with pytest.raises(LiteValueError, match="row 1 of column 'x' is null, or has one in it"):
            predict(pa.table({"x": bad}))
        if good is not None:
            assert predict(pa.table({"x": good}))["s"].to_pylist() == [3, 7]


def test_types_of_arrow_without_numbers_are_told():
    pa = pytest.importorskip("pyarrow")
    predict = Predictor(ADD)
    union = pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1.0])])
    for column in (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())), union):
        with pytest.raises(LiteTypeError, match=r"column 'a' of the batch is .* convert it to numbers"):
            predict(pa.table({"a": column, "b": [[1.0]]}))


def test_integers_name_the_columns_of_a_frame_without_names():
    assert Predictor(bytes_of_text(WIDE), inputs={"x": 0})({0: np.ones((1, 2))})["s"].tolist() == [2]
    with pytest.raises(LiteTypeError, match=r"has columns, which are texts or integers, not 0\.5"):
        Predictor(bytes_of_text(WIDE), inputs={"x": [0.5]})
    with pytest.raises(LiteTypeError, match="keep has columns, which are texts or integers, not True"):
        Predictor(bytes_of_text(WIDE), keep=[True])
    with pytest.raises(LiteTypeError, match=r"is an iterable, not 0\.5"):
        Predictor(bytes_of_text(WIDE), inputs={"x": 0.5})
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.arange(6.0).reshape(2, 3))
    kept = Predictor(bytes_of_text(WIDE), inputs={"x": [0, 1]}, keep=[2])(frame)
    assert kept[2].tolist() == [2, 5] and kept["s"].tolist() == [1, 7]


@pytest.mark.parametrize(("row", "is_of_dask"), [("[[[ 0.  0. ... 1.]]]", True), ("[1 2]", True), ("cat", False)])
def test_arrays_that_have_become_text_say_who_made_it(row, is_of_dask):
    pandas = pytest.importorskip("pandas")
    column = np.array([row, row], object)
    for batch_of_text in ({"data": c} for c in (column, pandas.Series(column), pandas.array(column, "string"))):
        with pytest.raises(LiteTypeError, match=r"row 0 of the batch holds .*, which is no array of numbers") as error:
            Predictor(DIGITS)(pandas.DataFrame(batch_of_text))
        assert ("'dataframe.convert-string': False" in str(error.value)) == is_of_dask
