"""Reports on a run for people and tools, in the original's forms and names.

::

    Plan.run_timed ─► steps with times ─────────────────► profile ─► JSON of the original, Chrome trace
    Plan.report    ─► steps, pieces of the arena ───────► memory_map ─► StaticMemoryInfo.json, graph.json
    model, inputs  ─► trace: computes every variable ───► io_dump ─► text, or a binary file per variable
                                                            │
                original_names: names and numbers ◄─────────┘ asked by all of them

* ``original_names`` - the original's names and numbers of operators and variables; start here
* ``profile`` - the time of every step; ``profile_comparison`` - two of them side by side
* ``trace`` - the values of all variables; ``io_dump`` writes them to files
* ``memory_map`` - where a plan puts its tensors
* ``model_facts`` - what can be said of a model without running it; ``slow_here`` - what its plans tell;
  ``file_nodes`` - the operators of an ONNX file, of which the graph has others
* ``model_report`` - a report to look at, a package of its own
* ``differences`` - how much two arrays differ; ``units``, ``text_table`` - numbers and tables as people read them

``_api/diagnostics`` asks for these reports and writes the files.
"""
