"""What tests of graphs and kernels share.

====================  =================================================================================================
``instruction_sets``  those that tests run on; ``pytest --isa NAME`` limits them
``graphs``            builders of small graphs; sessions that run them
``definitions``       one operator by its definition in numpy
``one_node``          one node through planner and kernels, plain or blocked
``quantized``         small quantized graphs, by kernels and by definition
``guarded_memory``    memory between forbidden pages, without numbers in it: all of the above run kernels in it
====================  =================================================================================================
"""
