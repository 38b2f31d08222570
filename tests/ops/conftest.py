"""Tests of GPU kernels: on a GPU where there is one, else in Triton's interpreter on the CPU."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def run_on_a_gpu_or_interpreted() -> Callable[[str], None]:
    """Runs a file of tests of this folder in a process of its own.

    The interpreter must be asked for before anything imports Triton.
    """
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is an optional extra and is not installed")

    def run(name: str) -> None:
        interpret = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
        # These cases use nothing that conftest.py files or plug-ins bring, and importing them takes seconds.
        options = ["-q", "-x", "--noconftest", "-o", "addopts="]
        interpret["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        command = [sys.executable, "-m", "pytest", *options, str(Path(__file__).with_name(name))]
        done = subprocess.run(command, env=os.environ | interpret, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout or "[100%]" in done.stdout

    return run
