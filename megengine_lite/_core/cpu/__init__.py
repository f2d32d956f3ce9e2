"""The CPU as a device: everything that depends on the hardware.

::

    Stage ─► lowering, lower/ ─► steps ─► arena ─► planner ─► Plan ─► program ─► kernels
                  │  algorithms/  which kernel                            │
                  └─ packing/     weights as kernels read them            └─ threads

* ``device`` - what the runtime and tensors see of all this
* ``isa`` - the table of instruction sets
* ``kernel_set`` - the instruction set that is used, and its kernels; ``kernel_call`` runs one of them by itself;
  ``kernel_index`` - which module has a kernel
* ``lowering`` - the workplace of lowering; ``lower/`` has a module per operator family
* ``steps`` - what comes out: steps, and the tensors in memory that they read and write
* ``lower/table`` - which function and kernels take an operator, by element types, mode and layout
* ``dispatch`` - what the rows of that table mean
* ``placement`` - concatenations whose operands are computed in their place
* ``algorithms`` - several ways to compute one operator: when each applies, what it costs, how fast it was measured
* ``arena`` - one piece of memory for all intermediate tensors: their offsets. ``host_memory`` - the memory itself
* ``planner`` - puts these together; start here. ``native_plan`` - what all plans with a program share
* ``host_call`` - runs the steps that have no kernel, by the operator's definition in numpy
* ``plan_record``, ``prepared_plan`` - a plan for a prepared file, and one from it
* ``step_report`` - plans, steps and their values as text, for the debug ladder; ``explanation`` - what a plan runs,
  node by node, for reports
* ``program`` - the array of calls that a run replays, without Python
"""
