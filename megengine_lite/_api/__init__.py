"""What the public modules are made of: arguments, options, ports, and the engine that a network drives.

::

    LiteNetwork ─► loading ─► engine ─► session (of ``_core/runtime``)
                                │
                                └─ ports: tensors of inputs and outputs, and their memory

* ``options``, ``layout`` - settings and layouts, as programs write them; ``settings`` - what is settled before load
* ``arguments``, ``sources``, ``tensor_data`` - checks of arguments, and how data gets into a tensor
* ``loading`` - a file or bytes become a model
* ``engine`` - forward, wait and callbacks; start here
* ``diagnostics`` - profiles, dumps, memory reports

The modules of the package itself (``network``, ``tensor`` ...) have the original's names and hold what programs import.
"""
