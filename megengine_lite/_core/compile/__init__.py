"""A model's graph becomes a stage with known shapes, and the stage a smaller graph that means the same.

::

    Graph, shapes of inputs ─► infer ─► Stage ─► passes ─► Stage with fused nodes ─► (a device)

* ``infer`` - shapes of all variables up to where only running can tell; start here
* ``passes`` - rewrites of a stage, one per file, in the order in which they run
* ``rewriter`` - replaces nodes and keeps producers and readers up to date
* ``substitution`` - the walk of passes that let nodes read other variables than before
* ``expand`` - graphs in the place of nodes that stand for them until shapes are known
* ``lifetimes`` - how long variables are needed, also where nodes are replaced by graphs
* ``unroll`` - short loops whose numbers of rounds follow from shapes, as nodes one after another
* ``transform`` - rewrites of a whole model that is to be written to a file
* ``samples`` - whether samples of a batch depend on each other, and into how large parts batches are cut
* ``vary_sizes`` - which sizes of a model may change, for files of other formats
"""
