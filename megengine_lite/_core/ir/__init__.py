"""The graph of a model: what the other packages read, make and rewrite.

::

    formats ─► ModelGraph ─► compile/infer ─► Graph ─► passes ─► Graph ─► a device
               never changed                  shapes are known, nodes may be replaced

    Constant (bytes of the file) ─► ConstantPool: what is derived from it, made once

* ``graph`` - variables, nodes, constants and their graph; start here
* ``dtype``, ``quantize`` - element types, and the arithmetic of quantized ones
* ``params`` - one class for each table of parameters that files of MegEngine's hold
* ``onnx_params``, ``onnx_image_params`` - parameters of the operators that only ONNX models have; ``onnx_reduction`` -
  what their reductions compute
* ``fused``, ``fused_quantized`` - parameters of the nodes that passes make
* ``declared_shape``, ``known_shapes`` - what inputs must be, and what is known of variables before a run
* ``expansion`` - nodes that stand for graphs, like those of loops and branches
* ``foreign`` - nodes of another format that cannot be run, in graphs to look at
* ``shape_constant`` - makes reshapes, whose target shapes are constants
* ``image_layouts`` - NCHW, NHWC, NCHW44, NCHW88 ...: shapes and conversions of stored images
* ``describe`` - graphs as text

Making a node changes nothing else. A graph has a list of its nodes in an order in which they can be computed.
"""
