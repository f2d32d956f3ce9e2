"""What a device is: memory, copies, and plans that run stages of a graph.

A device is one object of a class derived from :class:`~megengine_lite._core.device.interface.Device`. The runtime, the
reports and the API know devices by the classes of this package only;
:mod:`~megengine_lite._core.runtime.devices` lists the devices that exist. ::

    tensors, ports ─► allocate, read, write, copy, fill_zero ─► Storage: host memory, or memory of a device
    session        ─► plan(stage) ─► Plan: bind inputs and outputs, run
    reports        ◄─ Plan.report, Plan.run_timed

* ``interface`` - what a device must offer; start here
* ``plan`` - what its plans must offer, and the values that go in and out
* ``planned_graph`` - what a plan tells of its nodes, for reports

A :class:`~megengine_lite._core.system.memory.Storage` is host memory, or memory that only its ``device`` reaches. The
first kind has an address. The second kind has none for the host: asking for it raises ``DeviceError``. The device
derives a class of its own from ``Storage`` and keeps there what it needs to find the memory again.

Work on a device may go on after a call has returned, in the order of the calls. ``Device.read`` and
``Device.synchronize`` wait for everything that was started before. docs/adding-a-device.md builds a whole device.
"""
