import os
import platform
from pathlib import Path

import pytest
import torch

from kronreid.memory import give_back_memory, keep_memory


def test_keeping_memory_harms_nothing() -> None:
    keep_memory()
    assert torch.ones(1 << 20).sum() == 1 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives back memory when asked")
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
