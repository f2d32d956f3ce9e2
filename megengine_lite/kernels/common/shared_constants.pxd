# The constants of shared_constants.py: the build makes them (tools/kernel_tables.py).
include "shared_sizes.pxi"
include "weights_numbers.pxi"
include "output_kind_numbers.pxi"
include "storage_kind_numbers.pxi"
include "positions_numbers.pxi"
