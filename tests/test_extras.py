"""A missing package of an extra is one line; any other failed import keeps its traceback."""

import re
import sys
from importlib import import_module

import pytest

from kronreid.cli import main, train
from kronreid.errors import InputError
from kronreid.extras import EXTRAS, explained, require


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_package_of_an_extra(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in EXTRAS[extra]:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(InputError) as error, explained("this"):
                import_module(package)
            (named,) = re.findall(r"pip install 'kronreid\[(\w+)\]'$", str(error.value))
            assert package in EXTRAS[named]
            assert str(error.value).startswith(
                f"this needs the packages of kronreid[{named}] ({package} is missing)"
            )
            line = rf"^--x needs the packages of kronreid\[{extra}\] \({package} is missing\): "
            with pytest.raises(InputError, match=line):
                require("--x", extra)


def test_all_extras_of_which_something_is_missing_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    require("this", "figures", "gallery", "serve", "train")
    for package in ("lightning", "tensorboard", "uvicorn"):
        monkeypatch.setitem(sys.modules, package, None)
    line = r"^this needs the packages of kronreid\[serve,train\] \(uvicorn is missing\): pip install '"
    with pytest.raises(InputError, match=line):
        require("this", "figures", "gallery", "serve", "train")


@pytest.mark.parametrize(
    "name", ["nobody_has_this", "kronreid.nothing", "matplotlib.nothing", "nobody_has_this.data"]
)
def test_other_failed_imports_keep_their_traceback(name: str) -> None:
    """Our own modules, packages that no extra brings, and parts that an installed package lacks."""
    with pytest.raises(ModuleNotFoundError), explained("this"):
        import_module(name)


def test_a_failed_import_without_a_name_keeps_its_traceback() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^install something$"), explained("this"):
        raise ModuleNotFoundError("install something")


def test_a_command_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setattr(train, "run", lambda options: import_module("lightning"))
    assert main(["train", "horeid/market1501/gap"]) == 2
    assert capsys.readouterr().err == (
        "kronreid: error: kronreid train needs the packages of kronreid[train] (lightning is missing): "
        "pip install 'kronreid[train]'\n"
    )


def test_a_bug_in_a_command_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "run", lambda options: import_module("kronreid.nothing"))
    with pytest.raises(ModuleNotFoundError, match=r"kronreid\.nothing"):
        main(["train", "horeid/market1501/gap"])
