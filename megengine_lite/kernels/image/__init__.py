"""Pooling, resizing and regions of images."""
