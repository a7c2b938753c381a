"""Many files: what is done to one, which there are, and who does them."""
