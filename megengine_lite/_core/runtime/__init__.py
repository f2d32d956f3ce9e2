"""Runs a loaded model: plans for the shapes of its inputs, memory of inputs and outputs, jobs on other threads.

::

    LoadedModel ─► session: inputs ─► plans_by_shape ─► infer ─► device.plan(stage) ─► Plan, which is kept ─► run

It knows no kernels and no addresses: memory, copies and plans are asked of a ``Device``.

* ``session`` - the API drives it; start here
* ``plans_by_shape`` - the plans of a model, by shape; ``only_plan`` - the one of a session without a graph
* ``prepared`` - a model of which there is a plan in a file, and no graph
* ``repetition`` - runs the graph of a loop again and again
* ``devices`` - the one list of the devices that exist
* ``jobs`` - hands runs to a worker thread, and keeps the order of forward, wait and callbacks
* ``loans`` - lends the workers of a model to threads; ``mutex`` is the lock of both
"""
