"""Entropy models, the checkerboard partition of their context, CDF tables, and symbols."""
