"""How large a photograph may be."""

MAX_PIXELS = 2**28
"""Photographs of more pixels, padded, are refused before anything is allocated, unless a caller allows more."""
