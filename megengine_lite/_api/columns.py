"""Batches of rows as tools for data hold them: which columns they have, and how a result of the same kind is made.

``Columns`` reads dicts of arrays, arrays, pandas frames, and Arrow tables and record batches. pandas and pyarrow are
never imported here but by a batch that is of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from megengine_lite._api.arguments import require_unmasked
from megengine_lite._records import record
from megengine_lite.errors import LiteTypeError, LiteValueError, ShapeError, brief


@record(frozen=True, slots=True)
class Columns:
    """The columns of a batch. Each has a row per sample: an array's first dimension, or an array of objects.

    A plain array is the batch of a single column, whose name is None.
    """

    names: tuple[Any, ...]
    rows: int
    read: Callable[[Any], np.ndarray]
    """The column of a name."""
    build: Callable[[Sequence[Any], dict[str, np.ndarray]], Any]
    """A batch of the same kind, of columns that are kept and of new ones."""
    count: Callable[[Any], int | None] | None = None
    """How many rows the column of a name has, where that need not be ``rows``; None if it has no dimensions."""

    def require(self, name: Any) -> None:
        """Raises a LiteValueError if there is no such column, or more than one."""
        if name not in self.names:
            raise LiteValueError(f"the batch has no column {brief(name)}; it has {brief(list(self.names), 400)}")
        if self.names.count(name) > 1:
            raise LiteValueError(
                f"the batch has {self.names.count(name)} columns of the name {brief(name)}; rename them"
            )

    def require_rows(self, name: Any) -> None:
        """Raises a LiteValueError if there is no such column, a ShapeError if it has another number of rows."""
        self.require(name)
        self._check_rows(name, self.rows if self.count is None else self.count(name))

    def _check_rows(self, name: Any, count: int | None) -> None:
        if count != self.rows:
            there = "no" if count is None else count
            raise ShapeError(f"column {name!r} of the batch has {there} rows, the first column {self.rows}")

    def column(self, name: Any) -> np.ndarray:
        """The column of this name.

        Raises
        ------
        LiteValueError
            There is none, or it has a mask.
        ShapeError
            It has another number of rows than the first one.
        """
        self.require(name)
        found = self.read(name)
        require_unmasked(found)
        self._check_rows(name, len(found) if found.ndim else None)
        return found


def columns_of(batch: Any) -> Columns:
    """The columns of a batch of any kind.

    Raises
    ------
    LiteTypeError
        It is no batch.
    """
    if isinstance(batch, np.ndarray):
        return _of_array(batch)
    if isinstance(batch, Mapping):
        return _of_mapping(batch)
    kind = type(batch)
    package = kind.__module__.partition(".")[0]
    if package == "pandas" and hasattr(batch, "columns"):
        return _of_pandas(batch)
    if package == "pyarrow" and hasattr(batch, "column_names"):
        return _of_arrow(batch)
    raise LiteTypeError(
        "a batch is a dict of arrays, an array, a pandas frame, or a table or record batch of Arrow, not "
        f"{kind.__module__}.{kind.__qualname__}"
    )


def _of_array(batch: np.ndarray) -> Columns:
    if not batch.ndim:
        raise ShapeError("a batch has a row for each sample; the array has no dimensions")

    def build(kept: Sequence[Any], made: dict[str, np.ndarray]) -> np.ndarray:
        if len(made) != 1:
            raise LiteValueError(
                f"a batch that is an array gives an array, but the model has the outputs {list(made)}; choose one "
                "by outputs=[name], or give a dict"
            )
        return next(iter(made.values()))

    return Columns((None,), len(batch), lambda _: batch, build)


def _of_mapping(batch: Mapping[Any, Any]) -> Columns:
    def read(name: Any) -> np.ndarray:
        column = batch[name]
        return column if isinstance(column, np.ndarray) else _rows_of(column, name)

    names = tuple(batch)
    first = read(names[0]) if names else np.zeros(0)
    if not first.ndim:
        raise ShapeError(f"column {names[0]!r} of the batch has no dimensions; the first one is that of the rows")

    def count(name: Any) -> int | None:
        try:
            return len(batch[name])
        except TypeError:
            return None

    return Columns(names, len(first), read, lambda kept, made: {**{n: batch[n] for n in kept}, **made}, count)


def _of_pandas(frame: Any) -> Columns:
    def build(kept: Sequence[Any], made: dict[str, np.ndarray]) -> Any:
        result = frame[list(kept)].copy()
        for name, array in made.items():
            result[name] = _as_objects(array) if array.ndim > 1 else array
        return result

    return Columns(tuple(frame.columns), len(frame), lambda name: frame[name].to_numpy(), build)


def _of_arrow(table: Any) -> Columns:
    import pyarrow as pa

    def read(name: Any) -> np.ndarray:
        column = table.column(name)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # what has no chunk is not combined
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        try:
            column = _written_out(column)
            row = _row_with_null(column)
            found = _of_arrow_array(column) if row is None else None
        except pa.ArrowException as error:
            raise LiteTypeError(
                f"column {name!r} of the batch is {column.type}, of which no array of numbers can be made ({error}); "
                "convert it to numbers, or to lists of them"
            ) from error
        if found is None:
            raise LiteValueError(f"row {row} of column {name!r} is null, or has one in it; fill it or drop the row")
        return found

    def build(kept: Sequence[Any], made: dict[str, np.ndarray]) -> Any:
        arrays = {name: _to_arrow(array) for name, array in made.items()}
        # Fields carry what arrays do not: metadata, and that nothing is null.
        fields = [table.schema.field(name) for name in kept]
        fields += [pa.field(name, array.type) for name, array in arrays.items()]
        schema = pa.schema(fields, _metadata_with_new_columns(table.schema.metadata))
        return type(table).from_arrays([*(table.column(name) for name in kept), *arrays.values()], schema=schema)

    return Columns(tuple(table.column_names), table.num_rows, read, build)


def _metadata_with_new_columns(metadata: dict[bytes, bytes] | None) -> dict[bytes, bytes] | None:
    """The metadata of a schema, of which a note of pandas is left out if it would not let new columns have names.

    It says of what type the names of all columns are: ``to_pandas`` fails if they were numbers or dates.
    """
    note = (metadata or {}).get(b"pandas")
    if metadata is None or note is None:
        return metadata
    import json

    try:
        kinds = [of["numpy_type"] for of in json.loads(note)["column_indexes"]]
    except (ValueError, LookupError, TypeError):  # of somebody else, who reads it otherwise
        return metadata
    if len(kinds) <= 1 and all(kind in ("object", "str", "string") for kind in kinds):
        return metadata
    return {key: value for key, value in metadata.items() if key != b"pandas"}


def _row_with_null(array: Any) -> int | None:
    """The first row of an array of Arrow's that is null or has a null in its lists; None if there is none."""
    import pyarrow as pa

    if array.null_count:
        return int(array.is_null().index(True).as_py())
    if isinstance(array, pa.ExtensionArray):
        return _row_with_null(_written_out(array.storage))
    has_lists: bool = isinstance(array, _lists_of_arrow())
    if not has_lists:
        return None
    place = _row_with_null(_written_out(array.flatten()))
    if place is None:
        return None
    if isinstance(array, pa.FixedSizeListArray):
        return place // int(array.type.list_size)
    ends = np.cumsum(array.value_lengths().to_numpy(zero_copy_only=False))
    return int(np.searchsorted(ends, place, side="right"))


def _lists_of_arrow() -> tuple[type, ...]:
    import pyarrow as pa

    views = [getattr(pa, name, pa.ListArray) for name in ("ListViewArray", "LargeListViewArray")]  # since version 16
    return (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray, *views)


def _written_out(array: Any) -> Any:
    """An array of Arrow's with its values, where it has numbers of values or lengths of runs, whose nulls are not
    counted."""
    import pyarrow as pa
    import pyarrow.compute

    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        return _written_out(array.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return _written_out(pa.compute.run_end_decode(array))
    return array


def _of_arrow_array(array: Any) -> np.ndarray:
    """An array of Arrow's as a column: with more dimensions if its values are tensors or lists of one length."""
    import pyarrow as pa

    if isinstance(array.type, pa.FixedShapeTensorType):
        stored = _of_arrow_array(_written_out(array.storage)).reshape(len(array), *array.type.shape)
        order = array.type.permutation
        return stored if order is None else stored.transpose(0, *(p + 1 for p in order))
    if isinstance(array, pa.FixedSizeListArray):
        return _of_arrow_array(_written_out(array.flatten())).reshape(
            len(array), array.type.list_size, *_inner(array.type)
        )
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _inner(kind: Any) -> tuple[int, ...]:
    """The sizes of the lists in the lists of a type of Arrow's."""
    import pyarrow as pa

    kind = kind.value_type
    return (kind.list_size, *_inner(kind)) if pa.types.is_fixed_size_list(kind) else ()


def _to_arrow(array: np.ndarray) -> Any:
    import pyarrow as pa

    if array.dtype == object:  # rows of several shapes
        return pa.array([row.tolist() for row in array], _lists(array[0].dtype, max(row.ndim for row in array)))
    if array.ndim == 1:
        return pa.array(array)
    if not all(array.shape[1:]):  # tensors have elements
        return pa.array(array.tolist(), _lists(array.dtype, array.ndim - 1))
    flat = pa.array(array.reshape(-1))
    if array.dtype != np.bool_:  # which are bits, so no tensors
        kind = pa.fixed_shape_tensor(flat.type, array.shape[1:])
        return pa.ExtensionArray.from_storage(
            kind, pa.FixedSizeListArray.from_arrays(flat, kind.storage_type.list_size)
        )
    for size in reversed(array.shape[1:]):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _lists(dtype: np.dtype[Any], ndim: int) -> Any:
    """The type of Arrow's of lists of so many dimensions."""
    import pyarrow as pa

    kind = pa.from_numpy_dtype(dtype)
    for _ in range(ndim):
        kind = pa.list_(kind)
    return kind


def _as_objects(array: np.ndarray) -> np.ndarray:
    """An array of arrays: a row each."""
    objects = np.empty(len(array), object)
    for i, row in enumerate(array):
        objects[i] = row
    return objects


def _rows_of(column: Any, name: Any) -> np.ndarray:
    """A column that is a list, or an array of another library."""
    require_unmasked(column)
    try:
        found = np.asarray(column)
        # One text or None among numbers makes texts or objects of all: which row has it is seen in the rows alone.
        return found if found.dtype.kind not in "OSU" or found.ndim < 2 else _as_objects(column)
    except ValueError:  # rows of several shapes
        return _as_objects(column)
    except (TypeError, RuntimeError) as error:
        raise LiteTypeError(f"column {name!r} cannot be made of {brief(column)}: {error}") from error


def numbers_of(column: np.ndarray, name: Any, target: str) -> np.ndarray:
    """A column of single numbers; ``target`` is the input that it becomes a part of.

    Raises
    ------
    ShapeError
        It holds something else.
    LiteValueError
        One of its rows does.
    """
    if column.ndim == 1 and column.dtype == object:
        for row, value in enumerate(column):
            if not isinstance(value, int | float | np.number | np.bool_):
                raise LiteValueError(
                    f"row {row} of column {name!r} holds {brief(value)}, which is no number: it cannot be a part of "
                    f"input {target!r}"
                )
        column = np.array(column.tolist(), None if len(column) else np.float32)
    if column.ndim != 1 or column.dtype.kind not in "biuf":
        raise ShapeError(f"column {name!r} has to hold numbers to be a part of input {target!r}")
    return column


def check_no_nan(column: np.ndarray, target: str) -> None:
    """Checks a column that becomes integers: frames make a NaN of a number that is missing.

    Raises
    ------
    LiteValueError
        A row is or has a NaN.
    """
    if column.dtype.kind == "f":
        bad = np.isnan(column).reshape(len(column), -1).any(axis=1) if column.size else column
        if bad.any():
            raise LiteValueError(
                f"row {int(np.flatnonzero(bad)[0])} of the batch has NaN, and input {target!r} takes integers: fill "
                "what is missing, or drop the row"
            )


def stacked(column: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Some rows of a column, as one array; those of an array of objects have one shape.

    Raises
    ------
    LiteTypeError
        A row holds no numbers.
    """
    if column.dtype != object:
        return column[begin:end]
    return np.stack([_row(column, i) for i in range(begin, end)])


def runs_of_one_shape(columns: Sequence[np.ndarray], rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most so many neighbouring rows that can be stacked, in order."""
    ragged = [c for c in columns if c.dtype == object]
    if not ragged:
        yield from ((i, min(i + most, rows)) for i in range(0, rows, most))
        return
    begin, shapes = 0, None
    for i in range(rows):
        here = [_row(c, i).shape for c in ragged]
        if i > begin and (here != shapes or i - begin == most):
            yield begin, i
            begin = i
        shapes = here
    if begin < rows:
        yield begin, rows


def _row(column: np.ndarray, number: int) -> np.ndarray:
    row = column[number]
    require_unmasked(row)
    try:
        array = np.asarray(row)
        if array.dtype == object:  # lists of arrays, as frames read from files have them
            array = np.stack([np.stack(list(r)) if isinstance(r, np.ndarray) and r.dtype == object else r for r in row])
        if array.dtype == object:  # of numbers, each an object
            array = np.array(array.tolist())
    except (ValueError, TypeError) as error:
        raise _no_array(row, number) from error
    if array.dtype.kind not in "biuf":
        raise _no_array(row, number)
    return array


def _no_array(row: Any, number: int) -> LiteTypeError:
    text = f"row {number} of the batch holds {brief(row)}, which is no array of numbers"
    if isinstance(row, str) and row.lstrip().startswith("["):
        text += (
            " but its text. Dask makes text of arrays in frames, unless dask.config.set({'dataframe.convert-string': "
            "False}) comes before the frame is made"
        )
    return LiteTypeError(text)


def joined(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """The rows of all pieces: one array, or an array of objects if their shapes differ."""
    if len(pieces) == 1:
        return pieces[0]
    if len({p.shape[1:] for p in pieces}) == 1:
        return np.concatenate(pieces)
    return np.concatenate([_as_objects(p) for p in pieces])
