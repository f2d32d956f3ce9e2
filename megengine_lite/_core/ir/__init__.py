"""The graph of a model: what the other packages read, make and rewrite.

* ``graph`` - variables, nodes, constants and their graph; start here
* ``dtype``, ``quantize`` - element types, and the arithmetic of quantized ones
* ``params`` - one dataclass for each table of parameters that files hold
* ``fused``, ``fused_quantized`` - parameters of the nodes that passes make
* ``image_layouts`` - NCHW, NHWC, NCHW44, NCHW88 ...: shapes and conversions of stored images

Making a node changes nothing else. A graph has a list of its nodes in an order in which they can be computed.
"""
