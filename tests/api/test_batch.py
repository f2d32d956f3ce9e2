"""Predictors: batches of every kind, columns, rows that cannot run, and the models of a process."""

import os
import pickle
import shutil

import numpy as np
import pytest
from support.api_samples import ADD, DIGITS, IMAGES, PROB, close
from support.onnx_models import bytes_of_text

from megengine_lite import LiteError, batch, load
from megengine_lite.batch import Predictor
from megengine_lite.errors import (
    DeviceError,
    InternalError,
    LiteFileNotFoundError,
    LiteMemoryError,
    LiteTypeError,
    LiteValueError,
    ShapeError,
)

ROWS = IMAGES[:5]
EXPECTED = PROB[:5]


@pytest.fixture
def loads(monkeypatch):
    """The options of each load, in a process without models."""
    found = []

    def counted(source, **options):
        found.append(options)
        return load(source, **options)

    monkeypatch.setattr(batch, "load", counted)
    monkeypatch.setattr(batch, "_MODELS", batch._Models())
    return found


# ---- kinds of batches ------------------------------------------------------------------------------------------------


def test_a_dict_gives_a_dict():
    result = Predictor(DIGITS)({"data": ROWS})
    assert list(result) == ["prob"]
    assert close(result["prob"], EXPECTED)


def test_an_array_gives_an_array():
    assert close(Predictor(DIGITS)(ROWS), EXPECTED)


def test_a_batch_without_rows_gives_a_result_without_rows():
    predict = Predictor(DIGITS)
    for data in (ROWS[:0], np.empty(0, object)):
        result = predict({"data": data})
        assert result["prob"].shape == (0, 10)
        assert result["prob"].dtype == np.float32


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_a_batch_runs_in_pieces(size):
    assert close(Predictor(DIGITS, batch_size=size)(ROWS), EXPECTED)


def test_rows_are_lists_or_arrays():
    rows = np.empty(5, object)
    rows[:] = list(ROWS)
    for column in (rows, list(ROWS), ROWS.tolist()):
        assert close(Predictor(DIGITS)({"data": column})["prob"], EXPECTED)


def test_rows_of_several_shapes_keep_their_order():
    double = Predictor(bytes_of_text("(float[N, M] x) => (float[N, M] y) { y = Add(x, x) }"))
    sizes = [2, 2, 3, 2, 4, 4]
    column = np.empty(6, object)
    column[:] = [np.full(s, i, "float32") for i, s in enumerate(sizes)]
    result = double({"x": column})["y"]
    assert [row.tolist() for row in result] == [[2.0 * i] * s for i, s in enumerate(sizes)]


def test_a_frame_gives_a_frame_with_its_index():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"image": list(ROWS), "id": range(5)}, index=list("abcde"))
    result = Predictor(DIGITS, inputs={"data": "image"}, keep=["id"])(frame)
    assert list(result.columns) == ["id", "prob"]
    assert list(result.index) == list("abcde")
    assert close(np.stack(list(result["prob"])), EXPECTED)
    assert list(frame.columns) == ["image", "id"]


def test_columns_of_numbers_become_an_input():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"p": [1.0, 2.0], "q": [3, 4], "r": [5.0, 6.0], "b0": [0.5, 0.5]})
    add = Predictor(ADD, inputs={"a": ["p", "q", "r"], "b": ["b0", "b0", "b0"]})
    assert np.stack(list(add(frame)["sum"])).tolist() == [[1.5, 3.5, 5.5], [2.5, 4.5, 6.5]]


@pytest.mark.parametrize("cells", ["tensors", "lists of one length", "lists", "chunks"])
def test_a_table_gives_a_table(cells):
    pa = pytest.importorskip("pyarrow")
    flat = ROWS.reshape(5, 64)
    model = bytes_of_text(
        "(float[N, 64] x) => (float[N, 64] y, float[N] s) <int64[1] k = {1}> "
        "{ y = Add(x, x) s = ReduceSum<keepdims=0>(x, k) }"
    )
    column = {
        "tensors": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(flat),
        "lists of one length": lambda: pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), 64),
        "lists": lambda: pa.array(flat.tolist(), pa.list_(pa.float32())),
        "chunks": lambda: pa.chunked_array([pa.array(flat[:2].tolist()), pa.array(flat[2:].tolist())]),
    }[cells]()
    result = Predictor(model, keep=["id"])(pa.table({"x": column, "id": pa.array(range(5))}))
    assert result.column_names == ["id", "y", "s"]
    assert result["id"].to_pylist() == list(range(5))
    assert np.array_equal(result["y"].combine_chunks().to_numpy_ndarray(), 2 * flat)
    assert np.allclose(result["s"].to_numpy(), flat.sum(1))


def test_a_record_batch_gives_a_record_batch():
    pa = pytest.importorskip("pyarrow")
    result = Predictor(DIGITS, inputs={"data": "image"})(
        pa.record_batch({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS.copy())})
    )
    assert isinstance(result, pa.RecordBatch)
    assert close(result["prob"].to_numpy_ndarray(), EXPECTED)


def test_tensors_whose_dimensions_are_stored_in_another_order():
    pa = pytest.importorskip("pyarrow")
    stored = np.ascontiguousarray(ROWS.transpose(0, 2, 3, 1))  # NHWC
    kind = pa.fixed_shape_tensor(pa.float32(), stored.shape[1:], permutation=[2, 0, 1])
    flat = pa.FixedSizeListArray.from_arrays(pa.array(stored.reshape(-1)), 64)
    table = pa.table({"data": pa.ExtensionArray.from_storage(kind, flat)}).slice(1, 3)
    assert close(Predictor(DIGITS)(table)["prob"].combine_chunks().to_numpy_ndarray(), EXPECTED[1:4])


def test_a_table_of_truth_values_and_without_rows():
    pa = pytest.importorskip("pyarrow")
    more = Predictor(bytes_of_text("(float[N, 2] x) => (bool[N, 2] y) <float[1] z = {0}> { y = Greater(x, z) }"))
    column = pa.FixedSizeListArray.from_arrays(pa.array([1.0, -1.0, 2.0, 3.0], pa.float32()), 2)
    assert more(pa.table({"x": column}))["y"].to_pylist() == [[True, False], [True, True]]
    assert more(pa.table({"x": column[:0]})).num_rows == 0


# ---- columns ---------------------------------------------------------------------------------------------------------


def test_columns_are_chosen_and_named():
    predict = Predictor(DIGITS, inputs={"data": "image"}, outputs={"prob": "p"}, keep=["id"])
    result = predict({"image": ROWS, "id": np.arange(5), "other": np.zeros(5)})
    assert list(result) == ["id", "p"]
    assert result["id"].tolist() == [0, 1, 2, 3, 4]
    assert close(result["p"], EXPECTED)
    assert list(Predictor(DIGITS, outputs=["prob"])({"data": ROWS})) == ["prob"]


@pytest.mark.parametrize(
    ("options", "rows", "says"),
    [
        ({}, {"image": ROWS, "id": np.arange(5)}, r"no column 'data'; it has \['image', 'id'\]"),
        ({"inputs": {"data": "picture"}}, {"image": ROWS}, "no column 'picture'"),
        ({"inputs": {"image": "image"}}, {"image": ROWS}, r"no input 'image'; it has \['data'\]"),
        ({"outputs": ["p"]}, {"data": ROWS}, r"no output 'p'; it has \['prob'\]"),
        ({"keep": ["id"]}, {"data": ROWS}, "no column 'id'"),
        ({"keep": ["prob"]}, {"data": ROWS, "prob": np.zeros(5)}, "'prob' is kept and also made"),
    ],
)
def test_columns_that_are_not_there(options, rows, says):
    with pytest.raises(LiteValueError, match=says):
        Predictor(DIGITS, **options)(rows)


def test_columns_of_different_lengths():
    with pytest.raises(ShapeError, match="column 'b' of the batch has 3 rows, the first column 2"):
        Predictor(ADD)({"a": np.zeros([2, 3]), "b": np.zeros([3, 3])})


def test_an_array_for_a_model_of_several_outputs():
    two = bytes_of_text("(float[N] x) => (float[N] y, float[N] z) { y = Add(x, x) z = Neg(x) }")
    with pytest.raises(LiteValueError, match=r"outputs \['y', 'z'\]; choose one"):
        Predictor(two)(np.zeros(2))
    assert Predictor(two, outputs=["z"])(np.ones(2)).tolist() == [-1, -1]


def test_two_outputs_that_would_become_one_column():
    with pytest.raises(LiteValueError, match="two outputs cannot become one column 'r'"):
        Predictor(ADD, outputs={"y": "r", "z": "r"})


@pytest.mark.parametrize("wrong", [None, "text", 3, [1, 2], np.float32(1)])
def test_what_is_no_batch(wrong):
    with pytest.raises(LiteTypeError, match="a batch is a dict of arrays"):
        Predictor(DIGITS)(wrong)


# ---- rows that cannot run --------------------------------------------------------------------------------------------


def test_the_row_that_fails_has_its_number():
    rows = np.empty(5, object)
    rows[:] = list(ROWS)
    rows[3] = np.zeros([1, 7, 8, 3])
    with pytest.raises(ShapeError, match="row 3 of the batch: input 'data' has 4 dimensions"):
        Predictor(DIGITS)({"data": rows})
    rows[3] = "a picture"
    with pytest.raises(LiteTypeError, match="row 3 of the batch holds 'a picture'"):
        Predictor(DIGITS)({"data": rows})
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(LiteValueError, match="row 1 of column 'x' is null"):
        Predictor(DIGITS)(pa.table({"x": [1.0, None]}))


def test_a_null_inside_of_a_row_is_told_with_its_row():
    pa = pytest.importorskip("pyarrow")
    number = pa.float32()
    lists = [[1.0, 2.0], [], [3.0, 4.0], [5.0, None]]
    pairs = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [None, 7.0]]
    tensor = pa.fixed_shape_tensor(number, [2])
    columns = [
        pa.array(lists, pa.list_(number)),
        pa.array([[], *lists], pa.large_list(number))[1:],  # a slice
        pa.array(pairs, pa.list_(number, 2)),
        pa.array([[p] for p in pairs], pa.list_(pa.list_(number))),
        pa.ExtensionArray.from_storage(tensor, pa.array(pairs, tensor.storage_type)),
        pa.chunked_array([pa.array(pairs[:2], pa.list_(number, 2)), pa.array(pairs[2:], pa.list_(number, 2))]),
    ]
    for column in columns:
        with pytest.raises(LiteValueError, match="row 3 of column 'x' is null, or has one in it"):
            Predictor(DIGITS)(pa.table({"x": column}))


def test_a_value_in_one_row_that_an_input_cannot_hold():
    small = bytes_of_text("(uint8[N, 2] x) => (uint8[N, 2] y) { y = Add(x, x) }")
    rows = np.array([[1, 2], [3, 4], [5, 600]])
    with pytest.raises(LiteValueError, match=r"row 2 of the batch: .*cannot hold 600"):
        Predictor(small)({"x": rows})


def test_masks_are_refused():
    masked = np.ma.masked_array(IMAGES[:2], IMAGES[:2] > 3)
    objects = np.empty(2, object)
    objects[:] = [masked[0], masked[1]]
    for given in (masked, {"data": masked}, {"data": [*masked]}, {"data": objects}):
        with pytest.raises(LiteError, match="a masked array cannot become a tensor"):
            Predictor(DIGITS)(given)
    assert Predictor(DIGITS)({"data": IMAGES[:2], "kept": masked[:, 0, 0, 0]})["prob"].shape == (2, 10)


@pytest.mark.parametrize("error", [InternalError("no"), LiteMemoryError("no"), DeviceError("no")])
def test_what_rows_are_not_to_blame_for_is_told_as_it_is(monkeypatch, error):
    runs = []

    def fails(*arguments):
        runs.append(arguments)
        raise error

    monkeypatch.setattr(batch, "_run_together", fails)
    with pytest.raises(type(error)) as raised:
        Predictor(DIGITS)(ROWS)
    assert raised.value is error and len(runs) == 1


def test_a_model_of_one_row():
    one = bytes_of_text("(float[N, 2, 3] x) => (float[1, 6] y) <int64[2] s = {1, 6}> { y = Reshape(x, s) }")
    rows = np.arange(12, dtype="float32").reshape(2, 2, 3)
    with pytest.raises(ShapeError, match="rows 0 to 1 do not run together, but each does alone: use batch_size=1"):
        Predictor(one)({"x": rows})
    assert Predictor(one, batch_size=1)({"x": rows})["y"].tolist() == rows.reshape(2, 6).tolist()


def test_an_output_without_rows():
    whole = bytes_of_text("(float[N, 2] x) => (float[N, 2] y, float s) { y = Add(x, x) s = ReduceSum<keepdims=0>(x) }")
    for size in (1, 2, 64):
        with pytest.raises(
            ShapeError, match=r"output 's' has the shape \[\] for a batch of 1,.*choose other outputs"
        ) as error:
            Predictor(whole, batch_size=size)({"x": np.ones([2, 2])})
        assert "use batch_size=1" not in str(error.value)  # that is what fails
    with pytest.raises(ShapeError, match="use batch_size=1"):  # where it helps
        list(load(whole).map([np.ones([1, 2])], batch_size=2))
    assert len(list(load(whole).map([np.ones([1, 2])]))) == 1


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"model": 3}, LiteTypeError, "a path or bytes"),
        ({"keep": "id"}, LiteTypeError, "keep is a list of names, not a text"),
        ({"outputs": "prob"}, LiteTypeError, "outputs is a list of names, not a text"),
        ({"batch_size": 0}, LiteValueError, "batch_size is 1 or more"),
        ({"batch_size": 2.5}, LiteTypeError, "batch_size"),
        ({"threads": "two"}, LiteTypeError, "threads"),
        ({"workers": None}, LiteTypeError, "workers"),
        ({"threads": 0}, LiteValueError, "threads is 1 or more"),
        ({"threads": -1}, LiteValueError, "threads is 1 or more"),
        ({"workers": 0}, LiteValueError, "workers is a number from 1 to 256"),
        ({"workers": 10**9}, LiteValueError, "workers is a number from 1 to 256"),
    ],
)
def test_arguments_that_cannot_be(options, kind, says):
    with pytest.raises(kind, match=says):
        Predictor(**{"model": DIGITS, **options})


def test_a_model_that_is_not_there_is_an_error_of_the_call():
    predict = Predictor("no such.mge")
    with pytest.raises(LiteFileNotFoundError, match=r"no such\.mge"):
        predict({"data": ROWS})


# ---- the models of a process -----------------------------------------------------------------------------------------


def test_equal_predictors_load_once(loads):
    predict = Predictor(DIGITS)
    predict(ROWS)
    for _ in range(3):
        pickle.loads(pickle.dumps(predict))(ROWS)
    Predictor(os.path.relpath(DIGITS), keep=[])(ROWS)
    assert len(loads) == 1
    Predictor(DIGITS.read_bytes())(ROWS)
    Predictor(DIGITS.read_bytes())(ROWS)
    assert len(loads) == 2
    Predictor(DIGITS, threads=2)(ROWS)
    assert len(loads) == 3


def test_a_pickle_has_no_model():
    assert len(pickle.dumps(Predictor(DIGITS))) < 1000


def test_a_file_that_changes_is_loaded_again(loads, tmp_path):
    path = tmp_path / "model.mge"
    shutil.copy(DIGITS, path)
    predict = Predictor(path)
    assert close(predict(ROWS), EXPECTED)
    path.write_bytes(ADD)
    assert predict({"a": np.ones([2, 3]), "b": np.ones([2, 3])})["sum"].tolist() == [[2] * 3] * 2
    assert len(loads) == 2


def test_few_models_are_kept(loads, tmp_path):
    for i in range(batch._Models.MOST + 3):
        shutil.copy(DIGITS, tmp_path / f"{i}.mge")
        Predictor(tmp_path / f"{i}.mge")(ROWS)
    assert len(batch._MODELS._models) == batch._Models.MOST
    Predictor(tmp_path / f"{i}.mge")(ROWS)
    assert len(loads) == batch._Models.MOST + 3


@pytest.mark.parametrize(
    ("said", "threads"),
    [(None, 1), ("2", 2), ("", 1), ("0", 1), ("4,2", 4), (" 3 , 2", 3), (",2", 1), ("many", 1), ("9" * 30, 1)],
)
def test_threads_are_those_of_the_worker(loads, monkeypatch, said, threads):
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    Predictor(DIGITS)(ROWS)
    assert loads[0]["threads"] == threads


def test_warmup_loads(loads):
    predict = Predictor(DIGITS)
    predict.warmup()
    predict(ROWS)
    assert len(loads) == 1


def test_errors_are_lite_errors_and_repr_is_short():
    assert issubclass(ShapeError, LiteError)
    assert repr(Predictor(b"x" * 5000)) == "<Predictor of 5000 bytes>"
    assert repr(Predictor(DIGITS)) == f"<Predictor of '{DIGITS}'>"


# ---- batches without rows, and what is missing in rows ---------------------------------------------------------------

WIDE = (
    "(float[N, M] x) => (float[N, M] y, float[N] s) <int64[1] k = {1}> "
    "{ y = Add(x, x) s = ReduceSum<keepdims=0>(x, k) }"
)
FIXED = "(float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }"
WHOLE = "(int32[N, 2] i) => (int32[N, 2] y) { y = Add(i, i) }"


def arrow_columns(pa, width):
    """Columns of two rows, in each way in which Arrow has rows of several numbers."""
    values = [[1.0] * width, [2.0] * width]
    tensor = pa.fixed_shape_tensor(pa.float32(), [width])
    return {
        "list": pa.array(values, pa.list_(pa.float32())),
        "large list": pa.array(values, pa.large_list(pa.float32())),
        "list of a size": pa.array(values, pa.list_(pa.float32(), width)),
        "tensor": pa.ExtensionArray.from_storage(tensor, pa.array(values, tensor.storage_type)),
    }


@pytest.mark.parametrize("text", [WIDE, FIXED])
@pytest.mark.parametrize("kind", ["list", "large list", "list of a size", "tensor"])
@pytest.mark.parametrize("before", [False, True])
def test_a_table_without_rows_has_the_schema_of_one_with_rows(text, kind, before):
    """Engines look at an empty batch to know the schema. Neither lists without rows nor a model need say the width."""
    pa = pytest.importorskip("pyarrow")
    predict = Predictor(bytes_of_text(text))
    if before:  # a run of other sizes says nothing about this batch
        predict({"x": np.ones((2, 5 if text == WIDE else 3), np.float32)})
    table = pa.table({"x": arrow_columns(pa, 3)[kind], "id": [1, 2]})
    full, empty = predict(table), predict(table[:0])
    assert empty.num_rows == 0 and empty.column_names == full.column_names
    if text == FIXED or "list" != kind != "large list":
        assert empty.schema == full.schema
    else:
        assert empty.schema.field("y").type == pa.list_(pa.float32())
        assert empty.schema.field("s").type == pa.float32()


@pytest.mark.parametrize("kind", ["dict", "frame", "array"])
def test_a_batch_without_rows_has_the_width_of_its_columns(kind):
    predict = Predictor(bytes_of_text(WIDE), outputs=["y"])
    x = np.zeros((0, 4), np.float32)
    if kind == "frame":
        pandas = pytest.importorskip("pandas")
        frame = Predictor(bytes_of_text(WIDE), inputs={"x": ["a", "b"]})(pandas.DataFrame({"a": [], "b": []}))
        assert list(frame.columns) == ["y", "s"] and len(frame) == 0
        return
    found = predict({"x": x})["y"] if kind == "dict" else predict(x)
    assert found.shape == (0, 4) and found.dtype == np.float32


class _Label:
    """An extension type of its own, made when pyarrow is there."""

    @staticmethod
    def type(pa):
        class Label(pa.ExtensionType):
            def __init__(self):
                super().__init__(pa.int32(), "megengine_lite.tests.label")

            def __arrow_ext_serialize__(self):
                return b"made here"

            @classmethod
            def __arrow_ext_deserialize__(cls, storage, serialized):
                return cls()

        return Label()


def kept_columns(pa):
    """Columns of three rows of many types: with and without metadata, with nulls, and with none by declaration."""
    words = pa.array(["a", "b", "a"])
    label = pa.ExtensionArray.from_storage(_Label.type(pa), pa.array([1, 2, 3], pa.int32()))
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    arrays = {
        "key": pa.array([1, 2, 3], pa.int64()),
        "words": words,
        "views": words.cast(pa.string_view()),
        "few": words.dictionary_encode(),
        "ordered": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), pa.array(["x", "y"]), ordered=True),
        "ends": pa.RunEndEncodedArray.from_arrays([2, 3], [7, 8]),
        "when": pa.array([1, None, 3], pa.timestamp("ns", "Europe/Berlin")),
        "label": label,
        "tensor": tensor,
        "nested": pa.array([{"p": [1, 2]}, None, {"p": []}]),
        "nothing": pa.nulls(3),
    }
    fields = [pa.field(name, array.type, metadata={"unit": name, b"\xff": b"\x00"}) for name, array in arrays.items()]
    fields[0] = fields[0].with_nullable(False)
    fields[1] = fields[1].remove_metadata()
    return arrays, fields


@pytest.mark.parametrize("metadata", [None, {"source": "a", "ARROW:x": "b"}])
@pytest.mark.parametrize("kind", ["table", "chunks", "record batch", "no rows"])
def test_kept_columns_of_arrow_come_out_as_they_went_in(kind, metadata):
    """Types, metadata of fields and of the schema, and whether there may be nulls; not only the values."""
    pa = pytest.importorskip("pyarrow")
    arrays, fields = kept_columns(pa)
    x = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((3, 3), np.float32))
    schema = pa.schema([*fields, pa.field("x", x.type, metadata={"of": "x"})], metadata)
    make = pa.RecordBatch if kind == "record batch" else pa.Table
    batch = make.from_arrays([*arrays.values(), x], schema=schema)
    if kind == "chunks":
        batch = pa.concat_tables([batch[:1], batch[1:]])
    elif kind == "no rows":
        batch = batch[:0]
    keep = list(arrays)[::-1]  # in the order that is asked for
    found = Predictor(bytes_of_text(FIXED), keep=keep)(batch)
    assert type(found) is type(batch) and found.column_names == [*keep, "y"]
    assert found.schema.metadata == schema.metadata
    for name in keep:
        assert found.schema.field(name).equals(schema.field(name), check_metadata=True)
        assert found.column(name).equals(batch.column(name))
    assert found.schema.field("y").metadata is None and found.schema.field("y").nullable
    found.validate(full=True)


@pytest.mark.parametrize("names", [["a", "b"], [0, 1], [0, "b"], [np.datetime64("2020"), np.datetime64("2021")]])
@pytest.mark.filterwarnings("ignore:The DataFrame has column names of mixed type")
@pytest.mark.parametrize("index", [None, ["p", "q"], [5, 7]])
def test_a_table_that_pandas_has_made_becomes_a_frame_again(names, index):
    """Its metadata describe columns and rows of the frame, and the result has other columns."""
    pa, pandas = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    frame = pandas.DataFrame({names[0]: [1.0, 2.0], names[1]: pandas.Categorical(["u", "v"])}, index=index)
    table = pa.Table.from_pandas(frame)
    predict = Predictor(
        bytes_of_text(WIDE), inputs={"x": table.column_names[:1]}, outputs=["s"], keep=table.column_names[1:2]
    )
    found = predict(table).to_pandas()
    assert found["s"].tolist() == [1.0, 2.0]
    assert list(found.columns) == [table.column_names[1], "s"]
    assert isinstance(found.iloc[:, 0].dtype, pandas.CategoricalDtype)


@pytest.mark.parametrize("note", ["no JSON", "[]", "{}", '{"column_indexes": 3}', '{"column_indexes": [{}]}'])
def test_metadata_of_others_stay_as_they_are(note):
    pa = pytest.importorskip("pyarrow")
    schema = pa.schema([("x", pa.list_(pa.float32(), 3))], {"pandas": note})
    table = pa.Table.from_arrays([pa.array([[1.0, 2.0, 3.0]], schema.field("x").type)], schema=schema)
    assert Predictor(bytes_of_text(FIXED))(table).schema.metadata == schema.metadata


def test_rows_of_several_shapes_and_of_no_width_keep_their_type_in_arrow():
    pa = pytest.importorskip("pyarrow")
    predict = Predictor(bytes_of_text(WIDE), outputs=["y"])
    for rows in ([[1.0, 2.0], [3.0]], [[], []]):
        made = predict(pa.table({"x": pa.array(rows, pa.list_(pa.float32()))}))["y"]
        assert made.type == pa.list_(pa.float32()) and made.to_pylist() == [[2 * v for v in row] for row in rows]


def test_a_missing_number_of_an_integer_input_has_its_row():
    """pandas makes NaN of it, in each of its types."""
    pandas = pytest.importorskip("pandas")
    predict = Predictor(bytes_of_text(WHOLE), inputs={"i": ["a", "b"]})
    for missing in (
        [1, 2, np.nan],
        np.array([1, 2, None], object),
        pandas.array([1, 2, None], dtype="Int64"),
        pandas.array([True, True, None], dtype="boolean"),
    ):
        with pytest.raises(LiteValueError, match=r"row 2 of (the batch has NaN, and input 'i'|column 'b' holds)"):
            predict(pandas.DataFrame({"a": [1, 2, 3], "b": missing}))
    with pytest.raises(LiteValueError, match="row 1 of the batch has NaN, and input 'i' takes integers"):
        Predictor(bytes_of_text(WHOLE))({"i": np.array([[1, 2], [np.nan, 1]])})
    assert predict(pandas.DataFrame({"a": np.array([1, 2], object), "b": [3, 4]}))["y"].tolist()[1].tolist() == [4, 8]


@pytest.mark.parametrize("value", [None, "7", [1]])
def test_what_is_no_number_in_a_column_of_numbers_has_its_row(value):
    column = np.empty(3, object)
    column[:] = [1.5, value, 2.5]
    with pytest.raises(LiteValueError, match=r"row 1 of column 'b' holds .* cannot be a part of input 'x'"):
        Predictor(bytes_of_text(WIDE), inputs={"x": ["a", "b"]})({"a": np.ones(3), "b": column})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"inputs": "x"}, "inputs is a mapping from inputs to columns, not 'x'"),
        ({"inputs": ["x"]}, "inputs is a mapping from inputs to columns"),
        ({"inputs": {"data": []}}, "'data' an empty list of columns"),
        ({"keep": None}, "keep is an iterable, not None"),
        ({"keep": 3}, "keep is an iterable, not 3"),
        ({"outputs": 3}, "outputs is an iterable, not 3"),
    ],
)
def test_wrong_columns_are_told_at_once(options, says):
    with pytest.raises(LiteError, match=says):
        Predictor(DIGITS, **options)


def test_inputs_that_nothing_gives_and_columns_of_one_name_are_told():
    for predict, columns in (
        (Predictor(ADD), {"a": np.ones((2, 3))}),
        (Predictor(ADD), {"c": np.ones((2, 3)), "d": np.ones(2)}),
        (Predictor(ADD, inputs={"a": "a"}), {"a": np.ones((2, 3))}),
    ):
        with pytest.raises(
            LiteValueError, match=r"^nothing gives input '[ab]' of the model: the batch has the columns"
        ):
            predict(columns)
    pandas = pytest.importorskip("pandas")
    twice = pandas.DataFrame(np.ones((2, 3)), columns=["x", "x", "y"])
    with pytest.raises(LiteValueError, match="2 columns of the name 'x'; rename them"):
        Predictor(bytes_of_text(WIDE), inputs={"x": ["x", "y"]})(twice)
    pa = pytest.importorskip("pyarrow")
    table = pa.Table.from_arrays([pa.array([1.0])] * 3, ["x", "x", "y"])
    with pytest.raises(LiteValueError, match="2 columns of the name 'x'; rename them"):
        Predictor(bytes_of_text(WIDE), inputs={"x": ["x", "y"]})(table)
