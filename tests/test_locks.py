"""Locks between processes: they end with the process that holds them."""

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from kronreid.errors import InputError
from kronreid.locks import alone, in_turn

HOLDER = """
import sys
from pathlib import Path
from kronreid.locks import alone, in_turn
kind, path = sys.argv[1], Path(sys.argv[2])
with alone(path, "busy") if kind == "alone" else in_turn(path):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(kind: str, path: Path) -> "subprocess.Popen[str]":
    """A process that holds a lock until it is told to stop."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLDER, kind, str(path)], **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_another_processs_until_that_one_dies(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    with hold("alone", folder) as holder:
        try:
            with pytest.raises(InputError, match=r": wait$"), alone(folder, "wait"):
                pass
        finally:
            holder.kill()
    with alone(folder, "wait"):
        assert folder.is_dir()
    with alone(folder, "wait"):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot be written"), alone(tmp_path / "file", "busy"):
        pass


def test_a_turn_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with hold("turn", file) as holder:
        with pytest.raises(Timeout):
            FileLock(f"{file}.lock").acquire(timeout=0)
        assert holder.stdin is not None
        holder.stdin.close()
        with in_turn(file):
            assert (tmp_path / "log.lock").stat().st_mode & 0o777 == 0o600
