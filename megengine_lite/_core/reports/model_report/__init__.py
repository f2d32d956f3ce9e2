"""A report on a model and its runs, to look at: a page for browsers, Markdown, or JSON.

::

    file graph ─► model_facts ─┐
                               ├─► collect: one dictionary of plain types ─► report ─► JSON
    Session ─► measured runs ──┤        │                                      ├─────► markdown
    Device ──► roofline ───────┘        └─ nodes: boxes and arrows             └─────► graph_layout ─► html, page/

* ``collect`` - what a report says; start here
* ``recorded_run`` - which plans ran, in which loops, and how long
* ``nodes`` - the operators as a graph: as a plan runs them, or as the file has them if it cannot run; ``failing`` finds
  the operator that an error is about
* ``roofline`` - the most operations and bytes per second, measured
* ``layers`` - the results of two runs, operator by operator
* ``comparison`` - two reports side by side
* ``graph_layout`` - where boxes and arrows stand; ``html`` and ``markdown`` write what is collected
* ``graph_files`` - the graph alone, as a file

Names come from files that anybody may have made: they are text in all forms, never markup.
"""
