"""Metrics of image quality, task accuracy, preferences (2AFC), and rate-distortion curves."""
