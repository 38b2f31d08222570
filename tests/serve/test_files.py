"""Lines that are appended by several threads and processes at once."""

import threading
from pathlib import Path

from kronreid.serve.files import append_lines


def test_lines_written_at_once_neither_mix_nor_leave_gaps(tmp_path: Path) -> None:
    file = tmp_path / "log"
    start = threading.Barrier(8)

    def write(name: str) -> None:
        start.wait()
        for _ in range(25):
            append_lines(file, name * 2000)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = file.read_text().splitlines()
    assert sorted(lines) == sorted(name * 2000 for name in "abcdefgh" for _ in range(25))


def test_half_a_line_of_a_crash_does_not_spoil_the_next(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("half")
    append_lines(file, "whole")
    assert file.read_text() == "half\nwhole\n"
