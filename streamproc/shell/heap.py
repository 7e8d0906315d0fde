"""Keep freed memory in the process: numpy asks for the same few megabytes with every batch, and gives them back.

The C library returns freed memory to the kernel as soon as some megabytes are free at the end of the heap, and the kernel
hands it out again page by page, each one zeroed and faulted in. For the decoder that is half of its time. So a worker
tells the library once to keep up to 256 MiB. Where there is no glibc nothing changes.
"""

from __future__ import annotations

import ctypes

# From <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
KEPT_SIZE = 256 << 20
OWN_MAPPING_SIZE = 64 << 20  # requests from this size on are mapped, and given back, on their own


def keep_heap() -> bool:
    """Let this process keep what it frees; return whether the C library knows how."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_SIZE)) and bool(mallopt(_M_MMAP_THRESHOLD, OWN_MAPPING_SIZE))
