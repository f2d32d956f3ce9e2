"""Puts weights in the order in which kernels read them: ``float32`` and ``int8``. Pure numpy; runs once per model."""
