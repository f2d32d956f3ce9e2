"""A loaded model at work: plans for the shapes that it meets, memory of inputs and outputs, jobs on other threads.

``session`` is what the API drives; ``jobs`` hands runs to a worker thread.
"""
