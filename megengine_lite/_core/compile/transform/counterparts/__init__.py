"""What stands in files of MegEngine's for nodes of other formats: one function for each operator.

::

    node ─► find ─► function ─► Pieces (nodes that files have) ─► the variables that are its results

Start with ``table``. ``pieces`` makes the nodes and infers their shapes. ``integer_ranges`` says between which numbers
integers lie, so that those of 64 bits can be written in 32 where they fit. An operator without a function is written as
it is, if files have it. The functions are in modules by kinds of operators:

=================  ===================================================================================================
``arithmetic``     functions of elements: rounding, division, bits, choices
``reductions``     of several axes and of any type; softmax; sums and products up to each element; losses
``shapes``         padding, repeating, joining, slicing
``indexing``       gathering, scattering, sorting
``images``         pooling and resampling, axis by axis
``regions``        parts of images, resampled
``normalization``  in four dimensions, as the original asks for
``products``       Einstein's sums, Fourier transforms
``quantization``   quantized numbers as the real numbers that they stand for
``recurrent``      layers step by step
=================  ===================================================================================================
"""

from megengine_lite._core.compile.transform.counterparts import arithmetic as arithmetic
from megengine_lite._core.compile.transform.counterparts import images as images
from megengine_lite._core.compile.transform.counterparts import indexing as indexing
from megengine_lite._core.compile.transform.counterparts import normalization as normalization
from megengine_lite._core.compile.transform.counterparts import products as products
from megengine_lite._core.compile.transform.counterparts import quantization as quantization
from megengine_lite._core.compile.transform.counterparts import recurrent as recurrent
from megengine_lite._core.compile.transform.counterparts import reductions as reductions
from megengine_lite._core.compile.transform.counterparts import regions as regions
from megengine_lite._core.compile.transform.counterparts import shapes as shapes
from megengine_lite._core.compile.transform.counterparts.table import find as find
from megengine_lite._core.compile.transform.counterparts.table import is_for_any_size as is_for_any_size
from megengine_lite._core.compile.transform.counterparts.table import reads_sizes as reads_sizes
