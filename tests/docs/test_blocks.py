"""Every block of the documents runs as written, in order, in a folder that holds what the blocks name.

Bash runs the shell blocks and this process the Python; `tests/docs/shell.py` says what stands for what. A
Python block that begins with the name of a file, as in ``# circle.py``, is written to that file.
Blocks that show what may be given, by brackets, dots or words in capitals, are parsed instead, by
`test_commands.py`.
"""

import os
import re
import shutil
from pathlib import Path
from unittest import mock

import pytest

from .commands import is_synopsis
from .conftest import Examples
from .markdown import DOCUMENTS, Piece, blocks
from .shell import HERE, MILVUS, Shell, working_in

#: Configs of proxies are tested where the server is (`tests/serve/attacks/test_proxies.py`).
LANGUAGES = {"sh", "python", "json", "nginx", "caddy", ""}
RUN = [
    document
    for document in DOCUMENTS
    if any(block.language in ("sh", "python") and not is_synopsis(block.text) for block in blocks(document))
]


#: Packages that documents use and that no extra of kronreid brings.
FOREIGN = {"trackers.md": ("cv2", "supervision", "trackers")}


@pytest.mark.usefixtures("own_entries", "hub", "other_trackers", "coarse_figures")
@pytest.mark.parametrize("document", RUN, ids=lambda path: path.name)
def test_blocks_run_as_they_are_written(
    document: Path, examples: Examples, tmp_path: Path, milvus_lite: str
) -> None:
    for package in FOREIGN.get(document.name, ()):
        pytest.importorskip(package)
    curl = shutil.which("curl")
    if not shutil.which("bash") or not curl:
        pytest.skip("bash and curl run the documents' blocks; one of them is not installed")
    folder = examples.lay_out(document, tmp_path)
    names: dict[str, object] = {}  # blocks of Python go on where the one before ended
    with Shell(folder, milvus_lite, curl) as shell:
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "kronreid").symlink_to(shell.programs / "kronreid")
        for block in blocks(document):
            if file := re.match(r"# (\w+\.py)\n", block.text):
                (folder / file[1]).write_text(block.text)
            elif block.language == "python":
                text = padded(block).replace(MILVUS, milvus_lite).replace(HERE, shell.address)
                with working_in(folder), mock.patch.dict(os.environ, shell.environment):
                    exec(compile(text, str(document), "exec"), names)
            elif block.language == "sh" and not is_synopsis(block.text):
                shell.run(block.text)


def padded(block: Piece) -> str:
    """Its text on the lines where it stands, so that an error names the line."""
    return "\n" * block.line + block.text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks_say_what_they_are(document: Path) -> None:
    """A block without a language is a picture of something: no command hides in it."""
    for block in blocks(document):
        assert block.language in LANGUAGES, block
        if not block.language:
            first = {line.split()[0] for line in block.text.splitlines() if line.strip()}
            assert not first & {"kronreid", "python", "curl", "make", "pip", "docker", "import", "from"}, (
                block
            )
