"""The error that every bad stream raises."""


class StreamError(ValueError):
    """A stream that cannot be used; the message says what is wrong with it."""
