"""The base of all other packages: memory of tensors, files, limits of the machine, the processor.

::

    path ─► files ─► file_bytes ─► the bytes of a model
    shape, type ─► strided: a window into ─► memory: a storage ◄─► numpy arrays, buffers, dlpack
                                              └─ its device, if the host cannot reach it
    processor, cores, memory_limit, control_groups ─► what this machine has

* ``memory`` - storages, of which everything is made that a user can hold; start here
* ``tensor_limits`` - the most dimensions of a tensor, and where its memory begins
* ``strided`` - tensors over them; ``dlpack`` exchanges them with other libraries
* ``device_errors``, ``own_faults`` - what a device raises, and what only we can be blamed for, as our errors
* ``files`` - reading what may be anything, and replacing files as a whole
* ``file_bytes`` - the bytes of a model file in our own memory
* ``shared_arrays`` - arrays that the processes of a user have in memory once
* ``platform.h``, ``pages.h``, ``libraries.h`` - what systems do each in their own way
* ``memory_limit``, ``processor``, ``cores`` - how much memory there is, what the processor can do, its kinds of cores
* ``control_groups`` - the limits of memory and of processors' time that containers and services set
* ``debug`` - the levels of ``MEGENGINE_LITE_DEBUG``
* ``garbage`` - when the collector of cyclic garbage waits
* ``late_import`` - for parts of the package that are imported when they are needed
* ``imports_at_fork`` - forks that wait for what other threads import
* ``hashes``, ``integers``, ``suggest`` - small helpers

Nothing here knows what a model is.
"""
