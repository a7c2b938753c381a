"""The error that every bad stream raises."""


class StreamError(ValueError):
    """A stream that cannot be used: damaged, truncated, of another format or model, or without a layer.

    The message says which.
    """
