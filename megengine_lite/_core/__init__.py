"""From a model file to numbers: everything below the public API.

Packages stand in the order in which data passes through them::

    file ─► container ─► decrypt ─► records ─► Graph ─► passes ─► Plan (per input shape) ─► Program ─► forward()
            formats                            ir       compile   cpu                       cpu

==================  ====================================================================================================
``system``          what all others stand on: memory, files, limits, the processor
``session_config``  how a network is run: threads, algorithms, memory; what the API sets and the rest reads
``ir``              graphs: variables, nodes, parameters, element types, constants
``operators``       one class per operator: parameters, shapes, the definition in numpy, names in the original
``formats``         bytes of files become graphs, and graphs bytes
``compile``         shapes of a stage of a graph, and rewrites of it
``device``          what a device must offer: memory, copies, plans of stages
``cpu``             the CPU as a device: a stage becomes calls of kernels, memory for them, and a program that runs
``runtime``         sessions: plans by shape, inputs and outputs; jobs
``reports``         what a run tells people and tools: profiles, dumps, memory
==================  ====================================================================================================

A package imports only those above it in this table; ``formats`` and ``compile`` do not know each other. Only
``runtime/devices.py`` knows which devices exist: all else above ``cpu``, and ``_api``, asks a ``Device``. Public
modules and commands name ``cpu`` for what only the CPU has: ``cpu_info``, instruction sets, caches of algorithms.
Errors, the log and ``_records``, which makes classes with fields, stand below all. ``tests/project/test_layers.py``
holds the rule. Start with :mod:`~megengine_lite._core.ir.graph`, then :mod:`~megengine_lite._core.runtime.session`,
which drives the rest.
"""
