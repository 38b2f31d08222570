"""Memory that a process keeps, or gives back to the system."""

import ctypes
import platform

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
LARGEST = 2**31 - 1  # mallopt takes an int
#: Arrays of this many bytes and more get mappings of their own in a process that runs for hours.
MAPPED = 10**6


def keep_memory() -> None:
    """Tell glibc to reuse freed memory instead of giving it back to the system.

    By default glibc unmaps large arrays at once, and whatever takes memory next faults in every page again.
    Each step of a training frees its feature maps, and a search that reads a gallery frees every piece of it:
    the faults take a sixth of the step's time, and a third of the search's. With another C library nothing
    happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)  # large arrays get no mappings of their own,
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST)  # and the end of the heap is not given back


def return_memory() -> None:
    """Tell glibc to give every large array back to the system as soon as it is freed.

    By default glibc soon cuts large arrays from its heap. Once they are freed, small objects that stay settle
    in the holes, and the next large array needs new memory: a process that follows cameras grows for hours.
    With another C library nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED)


def give_back_memory() -> None:
    """Tell glibc to give freed memory back to the system, which it does not always do by itself.

    Call it once after something large has been read in pieces. With another C library nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
