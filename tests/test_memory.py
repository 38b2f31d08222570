import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kronreid.memory import give_back_memory, keep_memory


def test_keeping_memory_harms_nothing() -> None:
    keep_memory()
    assert torch.ones(1 << 20).sum() == 1 << 20


only_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc gives back memory when asked"
)


@only_glibc
def test_freed_memory_is_given_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    pieces = [bytearray(b"x" * 100_000) for _ in range(1000)]
    full = resident()
    kept = pieces[::50]  # so that no end of the heap is free
    del pieces
    give_back_memory()
    assert resident() < full - 50 * 10**6
    assert all(piece == b"x" * 100_000 for piece in kept)


#: Large arrays, with small objects that stay allocated between them, as a process makes them for hours.
HOLES = """
import os, sys
from pathlib import Path
from kronreid.memory import return_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 10**6

if sys.argv[1] == "returned":
    return_memory()
bytearray(30 * 10**6)  # from now on glibc would cut arrays of this size from its heap
before, arrays, small = resident(), [], []
for _ in range(10):
    array = bytearray(20 * 10**6)
    array[::4096] = bytes(len(array[::4096]))  # so that it is resident
    arrays.append(array)
    small.append(bytearray(100_000))
del array, arrays
print(resident() - before)
"""


@only_glibc
def test_large_arrays_leave_no_holes() -> None:
    def grown(how: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", HOLES, how]))

    assert grown("as usual") > 100
    assert grown("returned") < 20
