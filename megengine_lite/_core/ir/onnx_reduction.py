"""What reductions of ONNX compute: apart from other parameters of ONNX, because all models need it."""

from megengine_lite._codes import CodeEnum


class OnnxReduction(CodeEnum):
    """What :class:`~megengine_lite._core.ir.onnx_params.OnnxReduce` computes."""

    SUM = 0
    MEAN = 1
    MAX = 2
    MIN = 3
    PRODUCT = 4
