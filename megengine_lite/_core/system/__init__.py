"""The base of all other packages: memory of tensors, files, limits of the machine, the processor.

* ``memory`` - storages; ``strided`` - tensors over them; ``dlpack`` exchanges them with other libraries
* ``files`` - reading what may be anything, and replacing files as a whole
* ``file_bytes`` - the bytes of a model file in our own memory
* ``limits``, ``processor``, ``cores`` - how much memory there is, what the processor can do, its kinds of cores
* ``late_import`` - for parts of the package that are imported when they are needed
* ``hashes``, ``integers``, ``suggest`` - small helpers

Nothing here knows what a model is.
"""
