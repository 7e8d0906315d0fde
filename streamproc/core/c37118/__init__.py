"""IEEE C37.118.2 frames to arrays and back, without I/O: `decode` is the way in, `encode_data` the way out.

frame           header, CRC and the splitter        crc      the CRC of many frames at once
configuration   CFG-1, CFG-2, CFG-3 to values       data     a layout, and the numbers of data frames
book            which configuration is in force     decode   whole records to batches
encode          values to frames                    describe frames as plain dictionaries
"""

from streamproc.core.c37118.book import Book
from streamproc.core.c37118.configuration import Configuration, PmuInfo, parse_configuration
from streamproc.core.c37118.data import DataBatch, Layout, compile_layout
from streamproc.core.c37118.decode import Decoded, Other, decode
from streamproc.core.c37118.encode import encode_configuration, encode_data, encode_header
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
    Split,
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
    "Split",
    "compile_layout",
    "decode",
    "encode_configuration",
    "encode_data",
    "encode_header",
    "parse_configuration",
    "split",
]
