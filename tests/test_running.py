"""The tests' own way to start a process: nothing of it stays."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(float(sys.argv[1]))
"""


def alive(process: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        with Path(f"/proc/{process}/stat").open() as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
@pytest.mark.parametrize("seconds", [0, 600])
@pytest.mark.parametrize("fails", [False, True])
def test_a_child_is_gone_with_its_children(
    running: Callable[..., AbstractContextManager[subprocess.Popen]], seconds: int, fails: bool
) -> None:
    family: list[int] = []

    def use() -> None:
        with running([sys.executable, "-c", FAMILY, str(seconds)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            family.extend([process.pid, int(process.stdout.readline())])
            if not seconds:
                process.wait()
            if fails:
                raise RuntimeError("the test failed")

    if fails:
        with pytest.raises(RuntimeError, match="the test failed"):
            use()
    else:
        use()
    until = time.monotonic() + 60
    while any(map(alive, family)) and time.monotonic() < until:  # init has to take the grandchild
        time.sleep(0.01)
    assert len(family) == 2
    assert not any(map(alive, family))


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_a_child_hears_sigint_also_where_the_tests_do_not(
    running: Callable[..., AbstractContextManager[subprocess.Popen]], handler: signal.Handlers
) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with running([sys.executable, "-c", FAMILY, "600"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == -signal.SIGINT
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)
