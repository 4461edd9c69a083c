"""How this process treats memory that it frees."""

from __future__ import annotations

import ctypes
import functools

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
PAD_BYTES = 256 * 1024 * 1024


@functools.cache
def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the rest of this process; False where it is not glibc.

    glibc gives large blocks back to the system at once. A training step allocates the same activations again and again,
    and would have the kernel clear their pages each time: a quarter of the step of a small network.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, PAD_BYTES))
    return all(mallopt(name, value) for name, value in settings)
