"""What everything else stands on: memory of tensors, files, limits of the machine, the processor."""
