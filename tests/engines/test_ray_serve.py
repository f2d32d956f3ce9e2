"""The example on Ray Serve under load; collected where Ray Serve is installed."""

import contextlib
import http.client
import importlib
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.api_samples import IMAGES, NO_IMAGES, PROB
from support.engines import engine
from support.places import ROOT

ray = engine("ray")
serve = engine("ray.serve")

with socket.create_server(("127.0.0.1", 0)) as _free:
    PORT = _free.getsockname()[1]


@pytest.fixture(scope="module")
def _service():
    examples = str(ROOT / "examples")
    path = os.pathsep.join([examples, os.environ["PYTHONPATH"]])
    ray.init(
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    sys.path.insert(0, examples)
    serve.start(http_options={"port": PORT})
    serve.run(importlib.import_module("serve_with_ray").app)
    yield
    serve.shutdown()
    ray.shutdown()
    sys.path.remove(examples)


ANSWER = 60  # seconds that a client waits for an answer before it asks again
PATIENCE = 600  # and for all answers to one request: a busy machine takes long to start another replica


def post(body: bytes) -> dict:
    """The service's answer; a request without one, which a dying replica may have dropped, is sent again.

    The connection may end at any place, with an error of its own, and a wait that is too long is one more.
    """
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    raise AssertionError(f"no answer in {PATIENCE} seconds")


def kill_a_replica() -> None:
    """Ends the process of a replica; Ray Serve is not told."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    name, space = next((a["name"], a["namespace"]) for a in actors if "Digits" in a["name"])
    ray.kill(ray.get_actor(name, namespace=space))


@pytest.mark.usefixtures("_service")
def test_a_thousand_requests_while_a_replica_dies():
    numbers = [i % len(IMAGES) for i in range(1000)]
    bodies = [json.dumps(IMAGES[i].tolist()).encode() for i in range(len(IMAGES))]
    with ThreadPoolExecutor(32) as clients:
        answers = [clients.submit(post, bodies[i]) for i in numbers]
        answers[200].result()
        kill_a_replica()
        found = [a.result() for a in answers]
    check(found, numbers)


@pytest.mark.usefixtures("_service")
def test_clients_that_give_up_and_ask_again_lose_nothing():
    """As on a slow machine, where an answer takes longer than a client waits: hardly any first try has one in time."""
    numbers = [i % len(IMAGES) for i in range(64)]
    bodies = [json.dumps(IMAGES[i].tolist()).encode() for i in numbers]
    waits = [0.001 * (1 + k % 40) for k in range(64)]
    with ThreadPoolExecutor(32) as clients:
        patient = [clients.submit(post_after_giving_up, body, wait) for body, wait in zip(bodies, waits, strict=True)]
        check([answer.result() for answer in patient], numbers)


def post_after_giving_up(body: bytes, wait: float) -> dict:
    """The answer, after some requests whose answer nobody has waited for."""
    for _ in range(3):
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}", body, {"Content-Type": "application/json"})
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(request, timeout=wait).close()
    return post(body)


def check(found: list[dict], numbers: list[int]) -> None:
    """Compares the answers with the outputs for the images of these numbers."""
    assert [f["digit"] for f in found] == [int(PROB[i].argmax()) for i in numbers]
    assert np.allclose([f["probability"] for f in found], [PROB[i].max() for i in numbers], atol=1e-5)


@pytest.mark.usefixtures("_service")
def test_what_is_no_image_is_a_fault_of_the_request():
    for wrong in NO_IMAGES:
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(wrong)
        assert caught.value.code == 400, wrong[:40]
        assert "an image is a list of 8 lists of 8 numbers" in json.loads(caught.value.read())["error"]
    assert post(json.dumps(IMAGES[0].tolist()).encode())["digit"] == PROB[0].argmax()
