from .coder import CdfTables, SymbolReader, SymbolWriter
from .container import Layer, Stream, pack, strip, unpack
from .errors import StreamError
from .info import Info, inspect

__all__ = [
    "CdfTables",
    "Info",
    "Layer",
    "Stream",
    "StreamError",
    "SymbolReader",
    "SymbolWriter",
    "inspect",
    "pack",
    "strip",
    "unpack",
]
