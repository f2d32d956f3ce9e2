"""Differences in the files of older releases. They are converted here, so only the loader needs to know them."""

from __future__ import annotations

from megengine_lite._core.ir.params import ConvBias, ConvolutionFormat, Field, Images2Neibs, Param

Release = tuple[int, int]

NEWEST: Release = (1, 13)
"""The newest release whose files are known."""

# Releases 1.0, 1.5 and 1.6 wrote the number of a development version.
_UNRELEASED_CORE = 1799900


def release_of(number: int, has_metadata: bool) -> Release:
    """The public release (major, minor) that wrote a file.

    Up to 1.6 the number is that of the inference core. 1.5 and 1.6 cannot be told apart and count as 1.5.
    """
    if number == _UNRELEASED_CORE:
        return (1, 5) if has_metadata else (1, 0)
    major, minor = divmod(number // 100, 1000)
    if major == 8:
        # Core 8.3 to 8.6 are releases 0.3 to 0.6; core 8.7 to 8.11 are releases 1.0 to 1.4.
        return (0, minor) if minor < 7 else (1, minor - 7)
    return major, minor


_F = ConvolutionFormat
_FORMATS_UNTIL_1_1 = {12: _F.CHWN4}
_FORMATS_OF_1_2 = {
    12: _F.NCHW4_NCHW32,
    13: _F.NCHW32_NCHW4,
    14: _F.NCHW4_NCHW,
    15: _F.NHWC_NCHW,
    16: _F.NHWC_NCHW4_IC_SMALL,
    17: _F.NCHW_NCHW4_IC_SMALL,
    18: _F.CHWN4,
}
# Added to a format number that has no meaning today, so that no operator takes it for another format.
_FOREIGN_FORMAT = 1000


def current_format(number: int, release: Release) -> ConvolutionFormat | int:
    """Today's number of a layout in a file of some release."""
    if release >= (1, 3):
        # The lists of 1.5 and 1.6 differ from 12 on, and their files do not say which release wrote them.
        if release == (1, 5) and number >= 12:
            return _FOREIGN_FORMAT + number
    elif number >= 9:
        table = _FORMATS_OF_1_2 if release == (1, 2) else _FORMATS_UNTIL_1_1
        return table.get(number, _FOREIGN_FORMAT + number)
    return number


def _renumbered(table: type[Param], numbers: dict[str, int]) -> tuple[Field, ...]:
    """The fields of a table with the numbers that they had; fields that did not exist are left out."""
    return tuple(
        f._replace(id=numbers.get(f.name, f.id))
        for f in table.layout
        if f.name in numbers or f.id not in numbers.values()
    )


_CONV_BIAS_UNTIL_1_2 = _renumbered(ConvBias, {"compute_mode": 11})  # 10 was output_block_size
_IMAGES2NEIBS_UNTIL_1_3 = _renumbered(Images2Neibs, {"window_h": 4, "window_w": 5})


def layout_of(table: type[Param], release: Release) -> tuple[Field, ...]:
    """The fields of a parameter table as a release wrote them."""
    if table is ConvBias and release <= (1, 2):
        return _CONV_BIAS_UNTIL_1_2
    if table is Images2Neibs and release <= (1, 3):
        return _IMAGES2NEIBS_UNTIL_1_3
    return table.layout


def modernize(params: Param, release: Release) -> Param:
    """Parameters with today's numbers."""
    if release >= (1, 6):
        return params
    for f in params.layout:
        if f.enum is ConvolutionFormat:
            today = current_format(getattr(params, f.name), release)
            return params.replace(**{f.name: today})
    return params


def lacks_reserve_output(operator: str, release: Release) -> bool:
    """Whether the operator is an old batch norm, without the output for the backward pass that now precedes y."""
    return operator == "BatchNorm" and release < (1, 7)
