"""What tests share.

====================  =================================================================================================
``places``            where tests and checkout are
``pages``             the documentation, and the blocks of code in it
``instruction_sets``  those that tests run on; ``pytest --isa NAME`` limits them
``graphs``            builders of small graphs; sessions that run them
``definitions``       one operator by its definition in numpy
``one_node``          one node through planner and kernels, plain or blocked
``quantized``         small quantized graphs, by kernels and by definition
``channel_blocks``    arrays in blocks of channels
``guarded_memory``    memory between forbidden pages, without numbers in it: all of the above run kernels in it
``special_numbers``   zeros, infinities, NaN and the like
``half_precision``    numbers as bfloat16 and float16 hold them
``numpy_device``      a device with memory of its own, which computes by the definitions; ``devices`` uses it
``loader_samples``    files of MegEngine's, small or made of records
``api_samples``       models and networks for tests of the API
``onnx_models``       ONNX models made in tests; ``onnx_cases`` are those of the package onnx
``onnx_exports``      models written as ONNX, and run
``dropin_resources``  the files that programs for the original expect
``processes``         tests in processes of their own
``engines``           programs that spread work over processes, where they are installed
``trained_models``    models in Python packages, where these are installed
``c_library``         libraries of C operators, compiled from ``extern_c``
====================  =================================================================================================
"""
