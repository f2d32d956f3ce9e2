"""Commands of the command line, one per module.

::

    words ─► megengine_lite.cli ─► gflags: flags as load_and_run writes them ─► add(parser) of the command
                │                                                                        │
                └─ show(result) ◄── a result of plain types ◄── execute(arguments) ◄─────┘

* ``decrypt`` - the shortest command; start there
* ``run``, ``bench``, ``fit``, ``profile``, ``report``, ``verify``, ``info``, ``demo`` - about running a model
* ``pack``, ``unpack``, ``encrypt``, ``convert``, ``prepare``, ``cache`` - about files
* ``doctor`` - about this machine; ``completion`` - for shells
* ``flags`` - the settings of a network; ``inputs``, ``random_inputs``, ``own_inputs`` - its data; ``config_files`` -
  both in a file
* ``parallel``, ``other_run``, ``stored_values``, ``dumps``, ``watch``, ``bench_report``, ``compare_profiles`` - several
  runs, and what is seen of them
* ``number_types``, ``number_lists``, ``model_files``, ``json_files``, ``keys``, ``display``, ``progress`` - helpers

:mod:`megengine_lite.cli` is the entry and documents the protocol of a command.
"""
