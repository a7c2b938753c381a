"""Regions of interest: importance maps and saliency."""
