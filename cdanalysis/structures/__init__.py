"""Types that codec, stream, heads and data sets share: latents, targets, predictions."""
