"""Kernel arguments that say how a window moves over an image."""

from __future__ import annotations

from megengine_lite._core.operators.window import Window

_WINDOW_NAMES = {
    "size": ("kh", "kw"),
    "stride": ("stride_h", "stride_w"),
    "dilate": ("dilate_h", "dilate_w"),
    "pad": ("pad_h", "pad_w"),
}


def window_arguments(window: Window, *fields: str) -> dict[str, int]:
    """Arguments that say how a window moves, for some or all fields of it.

    Without fields they are those of ``FilterWindow`` (kernels/common/arguments.pxd).
    """
    arguments: dict[str, int] = {}
    for field in fields or _WINDOW_NAMES:
        arguments |= zip(_WINDOW_NAMES[field], getattr(window, field), strict=True)
    return arguments
