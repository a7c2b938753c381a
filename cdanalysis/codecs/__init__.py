"""Image codecs behind one protocol: this library's, Pillow's and CompressAI's."""
