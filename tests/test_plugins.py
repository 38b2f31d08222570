"""Plug-ins: what is imported from where, and one line where that fails."""

from pathlib import Path

import pytest

from kronreid import plugins
from kronreid.cli import main
from kronreid.errors import InputError
from kronreid.evaluation import PROTOCOLS
from kronreid.plugins import load_plugins

STRICT = """
from kronreid.evaluation import PROTOCOLS, Protocol
PROTOCOLS.add("strict", Protocol("strict", "no picture of the query's camera", drop_same_camera="all"))
"""


@pytest.fixture(autouse=True)
def own(own_entries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is in a folder of its own, and leaves nothing behind."""
    monkeypatch.setattr(plugins, "loaded", [])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def write(path: str, text: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return Path(path)


def test_a_module_of_the_current_folder() -> None:
    write("strictly.py", STRICT)
    load_plugins(["strictly", "strictly", "./strictly.py"])  # it is imported once
    assert PROTOCOLS["strict"].drop_same_camera == "all"
    assert plugins.loaded == ["strictly", "strictly", str(Path("strictly.py").resolve())]


def test_a_module_of_a_package() -> None:
    write("ours/__init__.py", "")
    write("ours/name.py", "NAME = 'strict'\n")
    write("ours/rule.py", "from .name import NAME\n" + STRICT.replace('add("strict"', "add(NAME"))
    load_plugins(["ours.rule"])
    assert "strict" in PROTOCOLS


def test_a_file_and_its_neighbours() -> None:
    write("../there/strictly.py", "import neighbour_of_strictly\n" + STRICT)
    write("../there/neighbour_of_strictly.py", "")
    load_plugins(["../there/strictly.py"])
    assert "strict" in PROTOCOLS


def test_the_current_folder_hides_no_installed_module() -> None:
    write("yaml.py", "raise RuntimeError('hidden')\n")
    load_plugins(["yaml"])
    with pytest.raises(InputError, match=r"--plugin \./yaml\.py: another module has the name yaml .*rename"):
        load_plugins(["./yaml.py"])


FAILURES = {
    "import nobody_has_this\n": "cannot be imported (ModuleNotFoundError: No module named 'nobody_has_this', "
    "failing.py line 1)",
    "\nfrom kronreid.losses import Nothing\n": "cannot import name 'Nothing' from 'kronreid.losses'",
    "import kronreid.nothing\n": "No module named 'kronreid.nothing', failing.py line 1)",
    "x = 1\ny = z\n": "cannot be imported (NameError: name 'z' is not defined, failing.py line 2)",
    "def f(:\n": "cannot be imported (SyntaxError: ",
    "raise ValueError('two\\nlines')\n": "cannot be imported (ValueError: two lines, failing.py line 1)",
    "import sys\nsys.exit(0)\n": "cannot be imported (SystemExit: 0, failing.py line 2)",
    "import json\njson.loads('{')\n": "failing.py line 2)",
    STRICT.replace('add("strict"', 'add("openreid"'): "protocol 'openreid': this name is taken",
    "import kronreid\nkronreid.read('nowhere')\n": "nowhere: no such folder",
}


@pytest.mark.parametrize("text", FAILURES, ids=list(map(str, range(len(FAILURES)))))
@pytest.mark.parametrize("name", ["failing", "failing.py"])
def test_a_plug_in_that_fails_is_one_line(
    text: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("failing.py", text)
    assert main(["papers", "--rows", "--plugin", name]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"kronreid: error: --plugin {name}: ")
    assert FAILURES[text] in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not plugins.loaded


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody_has_this", "no such module is installed or in the current folder"),
        ("nobody_has.this", "no such module is installed or in the current folder"),
        ("kronreid.nothing", "no such module is installed or in the current folder"),
        ("nowhere/plugin.py", "no such file"),
        ("here.py", "no such file"),
        ("", "cannot be imported"),
        ("..", "cannot be imported"),
    ],
)
def test_a_plug_in_that_is_missing_is_one_line(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["papers", "--rows", "--plugin", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"kronreid: error: --plugin {name}: {said}")
    assert error.count("\n") == 1


def test_what_fails_in_our_own_files_keeps_its_traceback() -> None:
    write("failing.py", "from kronreid.registry import nearest\nnearest('a', None)\n")
    with pytest.raises(TypeError, match="NoneType"):
        main(["papers", "--rows", "--plugin", "failing"])


def test_every_command_takes_plug_ins(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write("strictly.py", STRICT)
    for words in (["demo"], ["data", "check", "x"], ["gallery", "--gallery", "x"], ["train", "x"]):
        assert main([*words, "--plugin", "nobody_has_this"]) == 2
    assert main(["papers", "--rows", "--plugin", "strictly"]) == 0
    assert "horeid/market1501/gap" in capsys.readouterr().out
    assert any(message.startswith("plug-in strictly: ") for message in caplog.messages)
