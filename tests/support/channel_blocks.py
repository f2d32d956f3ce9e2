"""Arrays in blocks of channels, as kernels read and write them."""

import numpy as np


def block_channels(values: np.ndarray, width: int, halo_h: int = 0, halo_w: int = 0) -> np.ndarray:
    """An NCHW array in blocked layout, with a zero halo: ``(N, C / width, H + 2 halo_h, W + 2 halo_w, width)``."""
    n, c, h, w = values.shape
    blocks = -(-c // width)
    out = np.zeros((n, blocks, h + 2 * halo_h, w + 2 * halo_w, width), values.dtype)
    inner = out[:, :, halo_h : halo_h + h, halo_w : halo_w + w]
    padded = np.zeros((n, blocks * width, h, w), values.dtype)
    padded[:, :c] = values
    inner[...] = padded.reshape(n, blocks, width, h, w).transpose(0, 1, 3, 4, 2)
    return out


def unblock_channels(values: np.ndarray, channels: int, halo_h: int = 0, halo_w: int = 0) -> np.ndarray:
    """Back to NCHW, without the halo."""
    n, blocks, h, w, width = values.shape
    inner = values[:, :, halo_h : h - halo_h, halo_w : w - halo_w]
    return np.ascontiguousarray(
        inner.transpose(0, 1, 4, 2, 3).reshape(n, blocks * width, *inner.shape[2:4])[:, :channels]
    )
