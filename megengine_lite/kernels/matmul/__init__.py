"""Matrix products of float32 and of bytes."""
