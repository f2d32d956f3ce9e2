"""The shapes that a model declares for its inputs, and what of them must hold when it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from megengine_lite._records import field, record
from megengine_lite.errors import ShapeError, brief


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

    def __str__(self) -> str:
        return f"[{', '.join('?' if d is None else _shown(d) for d in self.dims)}]"


def _shown(dim: int | str) -> str:
    return brief(dim, 40).strip("'")


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
