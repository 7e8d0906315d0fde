"""How the process keeps its memory: what numpy frees stays, and the garbage collector looks seldom.

Numpy asks for the same few megabytes with every batch, and gives them back.

The C library returns freed memory to the kernel as soon as some megabytes are free at the end of the heap, and the kernel
hands it out again page by page, each one zeroed and faulted in. For the decoder that is half of its time. So a worker
tells the library once to keep up to 256 MiB. Where there is no glibc nothing changes.

Records are tuples and die with their batch, by reference count. The cyclic collector, which wakes after every 700
new tuples, would walk each record several times and find nothing: more than half of what the way in costs.
"""

from __future__ import annotations

import ctypes
import gc

# From <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
KEPT_SIZE = 256 << 20
OWN_MAPPING_SIZE = 64 << 20  # requests from this size on are mapped, and given back, on their own
YOUNG_OBJECTS = 100_000  # new containers before the collector looks at them; about 5 ms for one look
_PYTHONS_OWN = gc.get_threshold()


def calm_collector() -> None:
    """Let the cyclic collector look seldom, and never again at what is there now (modules, models)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def default_collector() -> None:
    """Undo `calm_collector`: the collector as Python starts it (benchmarks measure others with it)."""
    gc.unfreeze()
    gc.set_threshold(*_PYTHONS_OWN)


def keep_heap() -> bool:
    """Let this process keep what it frees; return whether the C library knows how."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_SIZE)) and bool(mallopt(_M_MMAP_THRESHOLD, OWN_MAPPING_SIZE))
