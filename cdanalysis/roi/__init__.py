"""Where bits should go: importance maps and saliency."""
