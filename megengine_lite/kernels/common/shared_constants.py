"""What kernels and planners share, whatever the instruction set: sizes of packed memory, and what numbers stand for.

It is written here only. ``tools/kernel_tables.py`` makes Cython constants of it for the kernels.
"""

from __future__ import annotations

from megengine_lite._codes import CodeEnum

TILE_BLOCKS = 2  # channel blocks that one pass over the input computes, and vectors in a panel of a matrix
QUAD = 4  # bytes of each operand that a dot product of int8 numbers takes
SAMPLE_PIXELS = 128  # of an output row that are sampled together, in one work item: whole vectors
MAX_DIMS = 8  # of the spaces that strided copies and elementwise chains walk through
CHAIN_OPERANDS = 4  # places for operands in a step of an elementwise chain
# The next three happen to be 64 bytes, as does ALIGNMENT in _core/system/tensor_limits.pxd. Each may change alone.
LINE = 16  # floats of a cache line
WIDEST = 16  # float32 lanes of the widest vectors that an instruction set has
# Bytes behind a piece of the arena that kernels may read: a vector. conv_depthwise_int8 reads up to three pixels more
# than a window has, and multiplies them with zero. Kernels never write there, and read nothing behind other memory.
SLACK = 64


class Weights(CodeEnum):
    """How packed weights of float32 kernels are stored."""

    FLOAT32 = 0
    BFLOAT16 = 1
    FLOAT16 = 2
    BFLOAT16_PAIRS = 3  # of neighbouring channels or rows of B, for products of bfloat16


def weight_bytes(weights: Weights) -> int:
    """Bytes of a number that is stored so."""
    return 4 if weights is Weights.FLOAT32 else 2


class OutputKind(CodeEnum):
    """How results of int8 products are stored."""

    BYTES = 0  # int8 or uint8
    SUM = 1  # int32: the sum itself
    S32 = 2  # int32 with a scale of its own
    REAL = 3  # float32


class StorageKind(CodeEnum):
    """How an operand of an elementwise function of quantized numbers is stored."""

    S8 = 0
    U8 = 1
    S32 = 2
    F32 = 3


class Positions(CodeEnum):
    """From what the positions follow at which an image is sampled."""

    MAP = 0  # they are listed, in pixels
    PERSPECTIVE = 1  # a matrix [3, 3], in float32
    AFFINE = 2  # a matrix [2, 3], in float32
    FINE_PERSPECTIVE = 3  # in float64, rounded to steps of 1/32 pixel
    FINE_AFFINE = 4  # in fixed-point numbers, rounded to such steps
