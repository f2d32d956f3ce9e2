"""Parameters of operators on windows, images and boxes that only ONNX models have."""

from __future__ import annotations

from megengine_lite._core.ir.params import BorderMode
from megengine_lite._records import record


@record(frozen=True, slots=True)
class SamePadding:
    """What is added around data so that a window leaves them with their size over the stride.

    All but ``lower`` have one number for each axis behind the channels. With ``lower`` the larger half stands in front.
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    lower: bool


@record(frozen=True, slots=True)
class OnnxPooling:
    """Pooling over any number of axes.

    Attributes
    ----------
    mode
        ``max``, ``average`` or ``norm``.
    window, strides, dilations, pads_begin, pads_end
        One number for each axis behind the channels.
    ceil
        A window that does not fit completely counts, if it begins inside of the data or of the padding in front.
    same
        ``upper`` or ``lower``: pads so that the output has the input's size over the stride; empty: as given.
    count_pads
        Averages divide by all positions of the window inside of the padded data.
    order
        Of the norm.
    column_major
        Positions of maxima count the axes in reverse.
    positions
        The second output has the positions of maxima.
    """

    mode: str
    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads_begin: tuple[int, ...]
    pads_end: tuple[int, ...]
    ceil: bool = False
    same: str = ""
    count_pads: bool = False
    order: int = 2
    column_major: bool = False
    positions: bool = False


BY_SCALE = "by_scale"
"""The nearest element up to version 10 of Resize: that behind a place on axes that become smaller, else that before."""


@record(frozen=True, slots=True)
class OnnxResize:
    """Resampling along axes.

    Attributes
    ----------
    axes
        What is resized; inputs have one number for each.
    by_sizes
        The second input has sizes of the output; else factors.
    mode, nearest, coordinates, cubic_a, exclude_outside, extrapolation, antialias, policy
        As the attributes of ONNX's Resize; ``nearest`` may also be ``BY_SCALE``.
    """

    axes: tuple[int, ...]
    by_sizes: bool
    mode: str
    nearest: str
    coordinates: str
    cubic_a: float
    exclude_outside: bool
    extrapolation: float
    antialias: bool
    policy: str


@record(frozen=True, slots=True)
class Unpooling:
    """The window of a pooling that is undone: numbers for each axis behind the channels."""

    window: tuple[int, ...]
    strides: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]


@record(frozen=True, slots=True)
class Blocks:
    """How blocks stand in an image: numbers for each axis behind the channels."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]


@record(frozen=True, slots=True)
class GridSampling:
    """How images are sampled at the points of a grid.

    Attributes
    ----------
    mode
        ``nearest``, ``linear`` or ``cubic``.
    padding
        ``zeros``, ``border`` or ``reflection``: what stands outside of the image.
    align_corners
        -1 and 1 are the centers of the outer pixels, not their outer edges.
    """

    mode: str
    padding: str
    align_corners: bool

    @property
    def border(self) -> BorderMode:
        """The same rule for whole pixels."""
        if self.padding == "reflection":
            return BorderMode.REFLECT_101 if self.align_corners else BorderMode.REFLECT
        return BorderMode.REPLICATE if self.padding == "border" else BorderMode.CONSTANT


@record(frozen=True, slots=True)
class Corners:
    """Whether -1 and 1 are the centers of the outer pixels, not their outer edges."""

    align_corners: bool


@record(frozen=True, slots=True)
class Regions:
    """Parameters of :class:`OnnxRoiAlign`, as the attributes of ONNX's RoiAlign."""

    size: tuple[int, int]
    takes_max: bool
    half_pixel: bool
    sampling_ratio: int
    scale: float


@record(frozen=True, slots=True)
class NamedAxes:
    """Axes that an input has numbers for."""

    axes: tuple[int, ...]


@record(frozen=True, slots=True)
class Suppression:
    """Parameters of :class:`SuppressedBoxes`.

    Attributes
    ----------
    by_center
        Boxes are center x, center y, width, height; else y, x of two opposite corners.
    has_scores
        The last input is a threshold of scores.
    """

    by_center: bool
    has_scores: bool
