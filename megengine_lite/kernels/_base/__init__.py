"""Kernels compiled for one instruction set; filled by setup.py."""
