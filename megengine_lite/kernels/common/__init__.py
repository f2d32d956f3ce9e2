"""What kernels of all families share: vectors, vector mathematics, register blocks, the calling convention."""
