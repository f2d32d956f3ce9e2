"""Recurrent cells, sorting, and a probe of what a build can do."""
