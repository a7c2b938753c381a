"""Measures of images, of tasks, of preferences, and of rate-distortion curves."""
