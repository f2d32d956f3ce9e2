"""Convolutions of float32 and of bytes, one module per algorithm."""
