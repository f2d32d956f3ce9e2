"""Runs many small tasks in another process, one after the other: a crash or a hang costs one task, not the run."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any


class Worker:
    """A process that answers one line of JSON for each line of JSON; see :func:`serve`.

    Parameters
    ----------
    command
        The program and its arguments.
    environment
        Added to that of this process.
    timeout
        Seconds that a task may take; the process is killed after that.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None, timeout: float = 60):
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, task: Any) -> tuple[Any, str]:
        """The answer and an empty string, or None and why there is no answer.

        A dead process is replaced at the next call.
        """
        process = self._process = self._process or subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None, self._end()
        if not select.select([process.stdout], [], [], self._timeout)[0]:
            process.kill()
            self._end()
            return None, f"no answer within {self._timeout:g} s"
        line = process.stdout.readline()
        return (json.loads(line), "") if line.endswith(b"\n") else (None, self._end())

    def run(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any, str]]:
        """Each task with what :meth:`ask` gives for it."""
        try:
            for task in tasks:
                yield (task, *self.ask(task))
        finally:
            if self._process:
                self._process.kill()
                self._end()

    def _end(self) -> str:
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        return f"the process ended with {process.wait()}"


def serve(answer: Callable[[Any], Any]) -> None:
    """The loop of a worker process: reads tasks from the standard input until it is closed."""
    answers = os.fdopen(os.dup(1), "w")
    # What libraries print must not come between the answers.
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
