"""A model as a web service, with nothing but Python's asyncio: requests run at the same time, one on each processor.

python examples/serve_with_asyncio.py --port 8000
curl -d "$(python -c 'print([[0] * 8] * 8)')" http://127.0.0.1:8000     # {"digit": 1, "probability": 0.99...}

It shows how `run_async` is awaited. Use a web framework for TLS, logs and whatever else a public service needs.
"""

import argparse
import asyncio
import json
import os
import signal
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

import megengine_lite
from megengine_lite.errors import LiteError

DIGITS = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"
MOST_BYTES = 1 << 16
SECONDS = 30.0  # for a client to send its request


async def answer(model: megengine_lite.Model, body: bytes) -> tuple[str, dict]:
    """The status and the content of the answer to a request."""
    try:
        image = np.asarray(json.loads(body), "float64").reshape(1, 1, 8, 8)
        if not np.isfinite(image).all():
            raise ValueError("not all of them are finite")
        (probabilities,) = await model.run_async(image)  # other requests are served meanwhile
    except (ValueError, TypeError, OverflowError, RecursionError, LiteError) as error:
        return "400 Bad Request", {"error": f"an image is a list of 8 lists of 8 numbers: {error}"}
    digit = int(probabilities[0].argmax())
    return "200 OK", {"digit": digit, "probability": float(probabilities[0, digit])}


async def read_body(reader: asyncio.StreamReader) -> bytes:
    """The body of a request; ValueError if it is none, or too large."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    fields = dict(line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)
    size = int(fields.get("content-length", "0"))
    if not 0 <= size <= MOST_BYTES:
        raise ValueError(f"a request has at most {MOST_BYTES} bytes")
    return await reader.readexactly(size)


async def serve(model: megengine_lite.Model, port: int) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):  # the client may have gone
            try:
                status, content = await answer(model, await asyncio.wait_for(read_body(reader), SECONDS))
            except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError) as error:
                status, content = "400 Bad Request", {"error": str(error)}
            body = json.dumps(content).encode()
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with await asyncio.start_server(talk, "127.0.0.1", port) as server:
        print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
        await stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    with megengine_lite.load(DIGITS, threads=1, workers=os.cpu_count() or 1) as loaded:
        loaded.warmup()
        try:
            asyncio.run(serve(loaded, parser.parse_args().port))
        except (OSError, OverflowError) as error:
            parser.error(f"the port cannot be used: {error}")
