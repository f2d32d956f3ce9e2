"""Reports on a run for people and tools, in the original's forms and names.

* ``original`` - the original's names and numbers of operators and variables; the other modules use it
* ``profile`` - the time of every step
* ``trace`` - the values of all variables; ``io_dump`` writes them to files
* ``memory`` - where a plan puts its tensors
"""
