"""Reductions, softmax and normalizations."""
