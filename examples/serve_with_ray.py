"""A model as a service on Ray Serve: two replicas; requests that come at the same time run as one batch.

python -m pip install 'megengine_lite[ray]'
serve run examples.serve_with_ray:app

curl -d "$(python -c 'print([[[0] * 8] * 8])')" http://127.0.0.1:8000
"""

from pathlib import Path

import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

import megengine_lite

DIGITS = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"


@serve.deployment(
    num_replicas=2,
    max_ongoing_requests=64,  # what a replica may hold; batches are made of these
    health_check_period_s=2,
    ray_actor_options={"num_cpus": 1},
)
class Digits:
    """Takes an image of [1, 8, 8] numbers as JSON; answers with the digit and its probability."""

    def __init__(self, path: str = str(DIGITS)):
        self._model = megengine_lite.load(path, threads=1)  # as many threads as num_cpus
        self._model.warmup()

    async def __call__(self, request: Request) -> JSONResponse:
        try:
            image = np.asarray(await request.json(), "float32").reshape(1, 8, 8)
            if not np.isfinite(image).all():
                raise ValueError("not all of them are finite")
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            message = f"an image is a list of 8 lists of 8 numbers: {error}"
            return JSONResponse({"error": message}, status_code=400)
        return JSONResponse(await self._classified(image))

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def _classified(self, images: list[np.ndarray]) -> list[dict]:
        """One answer for each image. Other requests are taken while the model runs."""
        (probabilities,) = await self._model.run_async(np.stack(images))
        return [{"digit": int(row.argmax()), "probability": float(row.max())} for row in probabilities]

    def check_health(self) -> None:
        """An exception here makes Ray replace the replica."""
        self._model(np.zeros([1, 1, 8, 8], "float32"))


app = Digits.bind()
