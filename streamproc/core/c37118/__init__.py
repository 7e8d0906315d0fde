"""IEEE C37.118.2: frames to arrays and back, without I/O. `decode` is the way in; `frame` explains the splitter."""

from streamproc.core.c37118.book import Book, Decoded, Other, decode
from streamproc.core.c37118.configuration import (
    Configuration,
    PmuInfo,
    encode_configuration,
    parse_configuration,
)
from streamproc.core.c37118.data import DataBatch, Layout, compile_layout, encode_data
from streamproc.core.c37118.frame import (
    CFG1,
    CFG2,
    CFG3,
    COMMAND,
    DATA,
    HEADER,
    TYPE_NAMES,
    Reason,
    Rejection,
    split,
)

__all__ = [
    "CFG1",
    "CFG2",
    "CFG3",
    "COMMAND",
    "DATA",
    "HEADER",
    "TYPE_NAMES",
    "Book",
    "Configuration",
    "DataBatch",
    "Decoded",
    "Layout",
    "Other",
    "PmuInfo",
    "Reason",
    "Rejection",
    "compile_layout",
    "decode",
    "encode_configuration",
    "encode_data",
    "parse_configuration",
    "split",
]
