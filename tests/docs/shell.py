"""A shell for the documents' blocks: bash runs them as written, the programs that they call are stand-ins.

`kronreid` and `python` on its path send their arguments, folder and environment to this process, which has
imported everything already: a process for each command would take minutes. This process runs the command and
sends back its output and exit status. Nothing but the following differs from what a reader would see:

- ``kronreid train`` trains a tiny network on tiny pictures for two iterations: `SMALL` is set on top of what
  the command says.
- ``kronreid serve`` listens on a free port and runs until the end of the document; curl and Python ask that
  port.
- The Hugging Face hub is a small one on the loopback interface.
- ``http://host:19530`` is Milvus Lite, serving on the loopback interface.
- ``python benchmarks/…`` parses its options and looks for the rows that they name. It does not measure,
  which would take minutes; other tests run these scripts on small data.
- Figures have 60 dots per inch, not 300, and their SVG files hold nothing; other tests look into these.
- ``make TARGET`` looks for the target in the Makefile.
"""

import contextlib
import io
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from kronreid.cli import main
from kronreid.papers import row_names
from kronreid.serve import server as serving
from kronreid.serve.app import Application
from kronreid.serve.server import make_server
from kronreid.training import config as configs
from kronreid.training.config import Config, read_config

from .markdown import ROOT

MILVUS = "http://host:19530"
HERE = "127.0.0.1:8000"
#: What training is shrunk by.
SMALL = [
    "model.backbone.name=test_resnet",
    "model.backbone.weights=none",
    "model.backbone.arguments={}",
    "input.height=64",
    "input.width=32",
    "batch.identities=4",
    "training.iterations=2",
    "training.epoch=1",
    "training.evaluate_every=1",
    "training.accelerator=cpu",
    "data.workers=0",
]
#: Sends words, folder and environment, prints what comes back.
STAND_IN = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({address!r})
    asked.sendall(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    output, errors, status = json.loads(asked.makefile().read())
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(status)
"""
CURL = """#!/bin/bash
exec {curl} --silent --show-error --fail-with-body "${{@//{here}/$(cat {address})}}"
"""


class _Parsed(Exception):
    """A script has read its options."""


class Shell:
    """Runs blocks in a folder. Leave it, and what its commands have started ends.

    Args:
        folder: Where the blocks run.
        milvus: Address of the server that stands for `MILVUS`.
        curl: Where the real one is.
    """

    def __init__(self, folder: Path, milvus: str, curl: str) -> None:
        self.folder, self.milvus = folder, milvus
        self.home = Path(tempfile.mkdtemp(prefix="kronreid"))  # the name of a socket must be short
        self.programs = self.home / "bin"
        self.programs.mkdir()
        self.environment: dict[str, str] = {}
        self._servers: list[tuple[Any, threading.Thread]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.home / "asked"))
        self._listener.listen()
        self._listener.settimeout(0.05)
        stand_in = STAND_IN.format(python=sys.executable, address=str(self.home / "asked"))
        asking = CURL.format(curl=curl, here=HERE, address=self.home / "address")
        for name, text in {
            "kronreid": stand_in,
            "python": stand_in,
            "make": stand_in,
            "curl": asking,
        }.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in self._servers:
            server.should_exit = True
            thread.join()
        self._listener.close()
        shutil.rmtree(self.home)

    @property
    def address(self) -> str:
        """Where the server that the commands have started listens; `HERE` before there is one."""
        file = self.home / "address"
        return file.read_text() if file.exists() else HERE

    def run(self, text: str) -> None:
        """Run a block.

        Raises:
            AssertionError: A command of it failed.
        """
        environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "HOME": str(self.home),
            "KRONREID_SHARED": str(self.folder),
            **self.environment,
        }
        with tempfile.TemporaryFile("w+") as printed:
            bash = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
            while bash.poll() is None:
                with contextlib.suppress(TimeoutError):
                    self._answer(self._listener.accept()[0])
            printed.seek(0)
            assert bash.returncode == 0, f"exit status {bash.returncode}\n{text}\n{printed.read()}"

    def _answer(self, asking: socket.socket) -> None:
        with asking, asking.makefile("rw") as lines:
            (program, *words), folder, environment = json.loads(lines.readline())
            program = {"kronreid": self._kronreid, "python": _python, "make": _make}[Path(program).name]
            output, errors = io.StringIO(), io.StringIO()
            with (
                mock.patch.dict(os.environ, environment),
                working_in(folder),
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(errors),
            ):
                try:
                    status = program(words)
                except SystemExit as end:
                    status = end.code
                except Exception:
                    traceback.print_exc()
                    status = 1
            lines.write(json.dumps([output.getvalue(), errors.getvalue(), status]))

    def _kronreid(self, words: list[str]) -> int:
        words = [word.replace(MILVUS, self.milvus) for word in words]
        if words[0] == "train":
            with mock.patch.object(configs, "read_config", shrunk):
                return main(words)
        if words[0] == "serve":
            with mock.patch.object(serving, "make_server", self._make_server):
                return main([*words, "--port", "0"])
        return main(words)

    def _make_server(self, application: Application) -> SimpleNamespace:
        """A server that runs beside the commands that follow."""
        server = make_server(application)

        def run(sockets: list[socket.socket]) -> None:
            own = [one.dup() for one in sockets]
            thread = threading.Thread(target=server.run, kwargs={"sockets": own})
            thread.start()
            self._servers.append((server, thread))
            while not server.started and thread.is_alive():
                time.sleep(0.02)
            (self.home / "address").write_text(f"127.0.0.1:{own[0].getsockname()[1]}")
            item = next(iter(application.service.gallery.current.entries())).id
            self.environment = {"TOKEN": application.settings.token, "ID": item}

        return SimpleNamespace(run=run)


@contextlib.contextmanager
def working_in(folder: str | Path) -> Iterator[None]:
    """Change to a folder, and back."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def shrunk(path: str | Path, changes: Sequence[str] = ()) -> Config:
    """A config as `read_config` reads it, with `SMALL` on top."""
    own = ["model.channels=16", "model.dimension=32"] if read_config(path, changes).name == "horeid" else []
    return read_config(path, [*changes, *SMALL, *own])


def _python(words: list[str]) -> int:
    """Parse a script's options, without what follows."""
    script = Path(words[0]).resolve()
    parse = ArgumentParser.parse_args

    def parse_only(parser: ArgumentParser, *arguments: Any) -> None:
        parse(parser, *arguments)
        raise _Parsed

    with (
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "path", [str(script.parent), *sys.path]),
        mock.patch.object(ArgumentParser, "parse_args", parse_only),
        contextlib.suppress(_Parsed),
    ):
        runpy.run_path(str(script), run_name="__main__")
        raise AssertionError(f"{script}: reads no options")
    named = {word for word in words if is_row(word)}
    known = {*row_names(), *(name.rpartition("/")[0] for name in row_names())}
    assert named <= known, f"no rows {named - known}"
    return 0


def is_row(text: str) -> bool:
    """Whether a word names a row of the papers' tables, or a data set of rows."""
    return bool(re.fullmatch(r"(horeid|kpm)/[\w-]+(/[\w.-]+)?", text))


def _make(targets: list[str]) -> int:
    """Look for targets in the Makefile."""
    there = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(targets) <= there, f"make knows {there}"
    return 0
