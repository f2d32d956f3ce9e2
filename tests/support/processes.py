"""Tests in processes of their own: a crash or a hang there fails one test and does not end the run."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import importlib
import multiprocessing
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from support.places import TESTS

LIMIT = 300
"""Seconds after which a test counts as hanging: long, because a busy machine takes as long as it takes."""


def in_process(code: str, *flags: str, cwd: object = None) -> str:
    """Runs a program, which may import the helpers of the tests; what it prints.

    Parameters
    ----------
    code
        The program.
    flags
        Of the interpreter.
    cwd
        Its working directory.

    Raises
    ------
    AssertionError
        It failed, was killed by a signal, or hangs. The message has what it wrote to stderr.
    """
    __tracebackhide__ = True
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, "-X", "faulthandler", *flags, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment, cwd=cwd)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"the program did not end within {LIMIT} s; stderr: {error.stderr}") from None
    assert done.returncode == 0, f"the program ended with {done.returncode}\n{done.stderr}"
    return done.stdout.strip()


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Decorator for a test that could crash or hang: its body runs in a new process, with the same arguments."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        __tracebackhide__ = True
        context = _fork_server()
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_report, args=(sender, test.__module__, test.__name__, arguments))
        process.start()
        sender.close()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError("the test does not end")
        with contextlib.suppress(EOFError):
            raise AssertionError(f"in a process of its own:\n{receiver.recv()}")
        assert process.exitcode == 0, f"the test ended with {process.exitcode}"

    return run


@functools.cache
def _fork_server() -> Any:
    """Makes processes that begin with everything imported and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "numpy", "megengine_lite._api.engine", "megengine_lite._core.runtime.session"]
    )
    return context


def _report(sender: Connection, module: str, name: str, arguments: dict[str, Any]) -> None:
    """Runs a test and sends the text of its error, if there is one."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(LIMIT - 5)
    try:
        getattr(importlib.import_module(module), name).__wrapped__(**arguments)
    except BaseException:
        sender.send(traceback.format_exc())
    finally:
        sender.close()
