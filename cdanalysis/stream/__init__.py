"""The .cda stream: bytes on disk, and symbols to bytes. No network weights needed."""
