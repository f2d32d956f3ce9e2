"""The shapes that a model declares for its inputs, and what of them must hold when it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from megengine_lite._records import field, record
from megengine_lite.errors import ShapeError, brief

OpenShape = tuple[int | str, ...]
"""A shape with sizes that a model leaves open: numbers, names, and "?" for what has no name."""


@record(eq=False, slots=True)
class DeclaredShape:
    """The shape that a model declares for one of its inputs.

    Attributes
    ----------
    name
        The input's.
    dims
        Numbers, names that stand for the same number in all inputs, and None for what may be anything. A scalar has
        none; its tensor has the shape (1,).
    trusted
        Axes that must have the declared size, because the graph is made for it. All others may have another one.
    """

    name: str
    dims: tuple[int | str | None, ...]
    trusted: set[int] = field(default_factory=set)

    @property
    def is_fixed(self) -> bool:
        """Whether all dimensions are numbers."""
        return all(isinstance(d, int) for d in self.dims)

    @property
    def open_shape(self) -> OpenShape:
        """The dimensions, as they are shown."""
        return tuple("?" if d is None else d for d in self.dims)

    def __str__(self) -> str:
        return open_shape_text(self.open_shape)


def open_shape_text(shape: Iterable[int | str]) -> str:
    """A shape as text.

    >>> open_shape_text((1, "height", "?"))
    '[1, height, ?]'
    """
    return f"[{', '.join(_shown(d) for d in shape)}]"


def _shown(dim: int | str) -> str:
    return brief(dim, 40).strip("'")


def agreed_shape(said: OpenShape | None, inferred: Sequence[int] | None) -> OpenShape | None:
    """What a model says of the shape of an output, without the numbers that cannot be.

    Parameters
    ----------
    said
        The shape in the model; None if there is none.
    inferred
        The shape for inputs of some sizes; None if it is not known. A number in ``said`` holds for all sizes, so it
        must be the same here.
    """
    if said is None or inferred is None:
        return said
    if len(said) != len(inferred):
        return None
    return tuple("?" if isinstance(d, int) and d != n else d for d, n in zip(said, inferred, strict=True))


def with_open_sizes(problem: str, shapes: Iterable[DeclaredShape], given: Mapping[str, Sequence[int]]) -> str:
    """An error about shapes; if inputs have sizes of 1 that the model leaves open, beside that of the batch, with them.

    Until an input is given, an open size is 1.
    """
    names = [
        _shown(declared.name)
        for declared in shapes
        if any(
            not isinstance(said, int) and size == 1
            for said, size in list(zip(declared.dims, given.get(declared.name, ()), strict=False))[1:]
        )
    ]
    if not names or "which the model leaves open" in problem:
        return problem
    sizes = ", ".join(names)
    return f"{problem}; with other sizes of {sizes}, which the model leaves open and which were 1, it may run"


def sizes_of_names(shapes: Iterable[DeclaredShape], given: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The sizes that the shapes of some inputs give to the names of dimensions."""
    sizes: dict[str, int] = {}
    declared = {d.name: d.dims for d in shapes}
    for name, shape in given.items():
        for dim, size in zip(declared.get(name, ()), shape, strict=False):
            if isinstance(dim, str):
                sizes.setdefault(dim, size)
    return sizes


def with_same_sizes(
    shapes: Sequence[DeclaredShape], now: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    """The shapes of all inputs once some are given: what has the same name in others gets the same size there.

    Parameters
    ----------
    shapes
        What the model declares.
    now
        The shapes of the inputs that are not given.
    given
        Shapes of some inputs. If two disagree on a name the first one counts; :func:`check_shapes` tells.
    """
    declared = {d.name: d.dims for d in shapes}
    sizes = sizes_of_names(shapes, given)
    found = {name: tuple(shape) for name, shape in now.items()}
    for name, dims in declared.items():
        if name in found and dims:
            found[name] = tuple(
                sizes.get(dim, size) if isinstance(dim, str) else size
                for dim, size in zip(dims, found[name], strict=True)
            )
    return {**found, **{name: tuple(shape) for name, shape in given.items()}}


def check_shapes(shapes: Iterable[DeclaredShape], given: Mapping[str, tuple[int, ...]]) -> None:
    """Compares the shapes of inputs with those that are declared.

    Raises
    ------
    ShapeError
        An input has another number of dimensions, another size where the graph needs the declared one, or another size
        than an input that has the same name there.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for declared in shapes:
        shape, dims = given[declared.name], declared.dims or (1,)
        begin = f"input {brief(declared.name)} is declared as {declared} and was given {list(shape)}: "
        if len(shape) != len(dims):
            raise ShapeError(f"{begin}it must have {len(dims)} dimensions")
        for axis, (wanted, size) in enumerate(zip(dims, shape, strict=True)):
            if isinstance(wanted, str):
                known, other = sizes.setdefault(wanted, (size, declared.name))
                if known != size:
                    raise ShapeError(f"{begin}{brief(wanted)} is {size} here and {known} in input {brief(other)}")
            elif wanted is not None and wanted != size and (axis in declared.trusted or not declared.dims):
                raise ShapeError(f"{begin}dimension {axis} must be {wanted}, the model is made for this size")
