"""The error that every bad stream raises."""


class StreamError(ValueError):
    """A stream that cannot be used: damaged, truncated, of another format or model, or without a layer.

    The message says which.
    """


def foreign_stream(theirs: str, own: str, name: str, origin: str, dtype: str) -> StreamError:
    """The error for a stream that other weights wrote.

    Args:
        theirs: the stream's fingerprint.
        own: that of the model as it is.
        name: of the model.
        origin: fingerprint of the file that it was loaded from; empty if there was none.
        dtype: what its codec's weights are now.

    Returns:
        the error, to be raised by the caller.
    """
    text = f"the stream was written by the model with fingerprint {theirs}; this is {name!r} with fingerprint {own}"
    if origin not in ("", own):
        how = "changed" if dtype == "torch.float32" else f"cast to {dtype}"
        text += f", whose codec was {how} since it had fingerprint {origin}: load it again, or encode again"
    return StreamError(text)
