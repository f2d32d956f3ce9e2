"""Elementwise functions of floats, integers and bytes, and conversions between element types."""
