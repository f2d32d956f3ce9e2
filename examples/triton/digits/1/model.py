"""Runs a model in Triton's Python backend. The model's file lies beside this one; by default it is the bundled one."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

import megengine_lite

BUNDLED = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"


class TritonPythonModel:
    """One instance: a process of its own, so one thread for a processor each."""

    def initialize(self, args: dict) -> None:
        beside = Path(args["model_repository"], args["model_version"], "model.mge")
        self._model = megengine_lite.load(beside if beside.exists() else BUNDLED, threads=1)
        self._model.warmup()

    def execute(self, requests: list) -> list:
        """A response for each request. All run as one batch; if that fails, each alone, with an error of its own."""
        try:
            return self._together(requests)
        except (megengine_lite.LiteError, ValueError) as error:
            if len(requests) > 1:
                return [response for request in requests for response in self.execute([request])]
            return [pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))]

    def _together(self, requests: list) -> list:
        inputs = [pb_utils.get_input_tensor_by_name(r, "data").as_numpy() for r in requests]
        (found,) = self._model(np.concatenate(inputs))
        ends = np.cumsum([len(i) for i in inputs])[:-1]
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("prob", np.ascontiguousarray(rows))])
            for rows in np.split(found, ends)
        ]

    def finalize(self) -> None:
        self._model.close()
