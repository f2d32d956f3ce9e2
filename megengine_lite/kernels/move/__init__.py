"""Copies, fills, transpositions, gathers and conversions between layouts."""
