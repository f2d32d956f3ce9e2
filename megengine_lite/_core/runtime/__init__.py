"""Runs a loaded model: plans for the shapes of its inputs, memory of inputs and outputs, jobs on other threads.

::

    Model ─► session: shapes of inputs ─► infer, passes, device ─► Plan (kept by shape) ─► run

* ``session`` - the API drives it; start here
* ``jobs`` - hands runs to a worker thread, and keeps the order of forward, wait and callbacks
"""
