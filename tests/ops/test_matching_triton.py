"""The GPU kernel: on a GPU where there is one, else in Triton's interpreter on the CPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is an optional extra and is not installed"
)
def test_kernel() -> None:
    """In a process of its own: the interpreter must be asked for before anything imports Triton."""
    interpret = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(Path(__file__).parent / "kernel_cases.py")]
    done = subprocess.run(command, env=os.environ | interpret, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout or "[100%]" in done.stdout
