"""The command line: its contract, and one line with exit status 2 for every kind of bad input."""

import argparse
import json
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import kronreid.evaluation
from kronreid import __version__
from kronreid.cli import main, make_parser
from kronreid.data.readers import read


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory,
    make_pedestrians: Callable[..., Path],
    save_tiny_models: Callable[[Path], None],
) -> Path:
    """A data set, an embedder and a matcher."""
    home = tmp_path_factory.mktemp("home")
    (home / "data").symlink_to(make_pedestrians(test_identities=4, distractors=12))
    save_tiny_models(home)
    return home


def pictures(home: Path) -> list[str]:
    return [str(path) for path in sorted((home / "data" / "query").iterdir())]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_evaluate_writes_the_figures_of_the_contract(
    home: Path, tmp_path: Path, evaluation_keys: set[str]
) -> None:
    assert run("evaluate", home / "horeid", "--data", home / "data", "--json", tmp_path / "a.json") == 0
    figures = json.loads((tmp_path / "a.json").read_text())
    assert evaluation_keys <= set(figures)
    assert figures["protocol"] == "market1501"
    assert figures["queries"] == 8
    assert 0 <= figures["mAP_trapezoid"] <= figures["mAP"] <= 1


@pytest.mark.parametrize("more", [[], ["--rerank-top", "all"], ["--k-reciprocal"]])
def test_evaluate_re_ranks(home: Path, tmp_path: Path, more: list[str]) -> None:
    file = tmp_path / "a.json"
    matcher = [] if more == ["--k-reciprocal"] else ["--matcher", home / "kpm"]
    assert run("evaluate", home / "horeid", "--data", home / "data", *matcher, *more, "--json", file) == 0
    figures = json.loads(file.read_text())
    assert figures["queries"] == 8
    assert (figures["matcher"] is None, figures["k_reciprocal"]) == (not matcher, not matcher)


def test_a_matcher_is_evaluated_alone(home: Path, tmp_path: Path) -> None:
    html, png = tmp_path / "r.html", tmp_path / "r.png"
    assert run("evaluate", home / "kpm", "--data", home / "data", "--html", html, "--png", png) == 0
    assert "mAP" in html.read_text()
    assert Image.open(png).width > 500


def market(data: Path, place: Path) -> Path:
    """Query and gallery alone, in Market-1501's folders."""
    for part in ("query", "bounding_box_test"):
        (place / part).symlink_to(data / part)
    return place


def folders(data: Path, place: Path) -> Path:
    """The same, a folder per person."""
    whole = read(data, "market1501")
    for part in ("query", "gallery"):
        for picture in getattr(whole, part):
            if picture.identity > 0:
                person = place / part / str(picture.identity)
                person.mkdir(parents=True, exist_ok=True)
                (person / f"{picture.camera}_{picture.path.name}").symlink_to(picture.path)
    return place


def listed(data: Path, place: Path) -> Path:
    """The same as a list."""
    whole = read(data, "market1501")
    lines = ["path,identity,camera,split"]
    for part in ("query", "gallery"):
        lines += [f"{one.path},{one.identity},{one.camera},{part}" for one in getattr(whole, part)]
    (place / "people.csv").write_text("\n".join(lines) + "\n")
    return place / "people.csv"


@pytest.mark.parametrize("lay_out", [market, folders, listed])
def test_evaluate_needs_no_training_pictures(
    home: Path, tmp_path: Path, lay_out: Callable[[Path, Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    root, file = lay_out(home / "data", tmp_path / "data"), tmp_path / "a.json"
    assert run("evaluate", home / "kpm", "--data", root, "--json", file) == 0
    assert json.loads(file.read_text())["queries"] == 8
    assert run("data", "check", root) == 0
    assert run("train", "horeid/market1501/gap", "--data", root, "--out", tmp_path / "run") == 2
    assert f"{root}: has no pictures to train on" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16-matching", "bf16"])
def test_evaluate_in_bfloat16(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """The option reaches both models; only bf16 touches the networks."""
    used: dict[str, tuple[bool, torch.dtype | None]] = {}
    evaluated = kronreid.evaluation.evaluate_dataset

    def watched(model: Any, *arguments: Any, matcher: Any, **options: Any) -> Any:
        for tool in (model, matcher):
            used[type(tool).__name__] = tool.autocast, getattr(tool, "matching", None)
        return evaluated(model, *arguments, matcher=matcher, **options)

    monkeypatch.setattr(kronreid.evaluation, "evaluate_dataset", watched)
    file = tmp_path / "a.json"
    models = home / "horeid", "--matcher", home / "kpm"
    assert run("evaluate", *models, "--data", home / "data", "--precision", precision, "--json", file) == 0
    networks = precision == "bf16"
    assert used == {"Embedder": (networks, None), "Matcher": (networks, torch.bfloat16)}
    assert 0 <= json.loads(file.read_text())["mAP"] <= 1


def test_what_commands_write_can_be_read_by_whom_the_umask_lets(home: Path, tmp_path: Path) -> None:
    out, (a, b, *_) = tmp_path / "out", pictures(home)
    (tmp_path / "frames.csv").write_text(f"path,identity,camera,x,y,w,h\n{a},1,1,0,0,30,60\n")
    before = os.umask(0o027)
    try:
        out.mkdir()
        assert run("summary", home / "horeid", "--json", out / "summary.json") == 0
        assert run("match", a, b, "--model", home / "kpm", "--png", out / "why.png") == 0
        assert run("crop", tmp_path / "frames.csv", "--out", out / "crops") == 0
    finally:
        os.umask(before)
    modes = {path: (path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [out, *out.rglob("*")]}
    assert len(modes) == 8
    assert set(modes.values()) == {(True, 0o750), (False, 0o640)}


def test_odd_metadata_stop_no_command(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture that lies on its side, with a resolution of −1/0 beside its orientation."""
    tags = struct.pack("<HHLL", 0x0112, 3, 1, 6) + struct.pack("<HHLL", 0x011A, 10, 1, 38)
    block = b"Exif\0\0II*\0\x08\0\0\0\2\0" + tags + bytes(4) + struct.pack("<ll", -1, 0)
    upright = Image.open(pictures(home)[0])
    odd, plain = tmp_path / "0001_c1s1_000001_00.png", tmp_path / "plain.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(odd, exif=block)
    upright.save(plain)
    assert run("match", odd, plain, "--model", home / "kpm") == 0
    uri, hits = tmp_path / "people.gallery", tmp_path / "hits.json"
    assert run("index", odd, "--model", home / "horeid", "--gallery", uri) == 0
    assert "1 added" in capsys.readouterr().out
    assert run("search", odd, "--gallery", uri, "--json", hits) == 0
    assert json.loads(hits.read_text())["hits"][0]["similarity"] == pytest.approx(1)
    assert run("search", plain, "--gallery", uri, "--json", hits) == 0
    assert json.loads(hits.read_text())["hits"][0]["similarity"] == pytest.approx(1)
    frames = tmp_path / "frames.csv"
    frames.write_text(f"path,identity,camera,x,y,w,h\n{odd},1,1,0,0,{upright.width},{upright.height}\n")
    assert run("crop", frames, "--out", tmp_path / "crops") == 0
    (crop,) = (tmp_path / "crops").rglob("*.jpg")
    assert Image.open(crop).size == upright.size


def test_index_search_and_gallery(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri, folder = tmp_path / "people.gallery", home / "data" / "bounding_box_test"
    assert run("index", folder, "--model", home / "horeid", "--gallery", uri) == 0
    number = len(list(folder.iterdir()))
    assert f"{number} added" in capsys.readouterr().out
    assert run("index", folder, "--model", home / "horeid", "--gallery", uri) == 0
    assert f"0 added, {number} already there" in capsys.readouterr().out
    file, page = tmp_path / "hits.json", tmp_path / "hits.html"
    query = pictures(home)[0]
    more = ["--matcher", home / "kpm", "--top", 5, "--matcher-weight", 1, "--json", file, "--html", page]
    assert run("search", query, "--gallery", uri, *more) == 0
    hits = json.loads(file.read_text())["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    probabilities = [hit["probability"] for hit in hits]
    assert probabilities == sorted(probabilities, reverse=True)
    assert "<img" in page.read_text()
    assert run("search", query, "--gallery", uri, "--camera", 2, "--json", file) == 0
    assert {hit["camera"] for hit in json.loads(file.read_text())["hits"]} == {"2"}
    capsys.readouterr()
    assert run("gallery", "info", "--gallery", uri) == 0
    assert f"{number} pictures" in capsys.readouterr().out
    assert run("gallery", "verify", "--gallery", uri) == 0
    assert "all intact" in capsys.readouterr().out
    assert run("gallery", "export", "--gallery", uri, "--csv", tmp_path / "all.csv") == 0
    assert run("gallery", "delete", "--gallery", uri, "--camera", 1) == 0
    assert run("gallery", "delete", "--gallery", uri) == 2  # everything must be asked for


def test_match_draws_and_writes(home: Path, tmp_path: Path) -> None:
    a, b = pictures(home)[:2]
    png, file = tmp_path / "why.png", tmp_path / "why.json"
    assert run("match", a, b, "--model", home / "kpm", "--png", png, "--json", file) == 0
    why = json.loads(file.read_text())
    assert 0 <= why["probability"] <= 1
    assert [len(scale["correspondence"]) for scale in why["scales"]] == [
        scale["height"] * scale["width"] for scale in why["scales"]
    ]
    assert Image.open(png).height > 300


def test_summary_of_a_config_and_of_a_model(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    assert run("summary", "horeid/market1501/ghp-n2", "--json", file) == 0
    figures = json.loads(file.read_text())
    assert figures["parameters_with_sketches"] / 1e6 == pytest.approx(25.87, abs=0.01)
    assert figures["multiply_adds"] / 1e9 == pytest.approx(6.43, abs=0.01)
    assert run("summary", home / "kpm", "--json", file) == 0


def bad(home: Path, tmp: Path) -> dict[str, tuple[list[object], str]]:
    """What is typed, and what the line must name."""
    (tmp / "empty").mkdir()
    (tmp / "text.jpg").write_text("no picture")
    truncated = tmp / "cut.jpg"
    truncated.write_bytes(Path(pictures(home)[0]).read_bytes()[:700])
    for name in ("nameless", "halves"):
        (tmp / name / "bounding_box_train").mkdir(parents=True)
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp / "nameless" / folder).mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(tmp / "nameless" / folder / "holiday.jpg")
    weightless = tmp / "weightless"
    weightless.mkdir()
    (weightless / "config.json").write_text((home / "horeid" / "config.json").read_text())
    other = tmp / "other"
    other.mkdir()
    (other / "config.json").write_text((home / "horeid" / "config.json").read_text())
    (other / "model.safetensors").write_bytes((home / "kpm" / "model.safetensors").read_bytes())
    config = tmp / "config.yaml"
    config.write_text(
        "model: {name: pooled, backbone: {name: test_resnet, weights: none}}\nbatch: {identities: 4}\n"
    )
    a, kpm, data = pictures(home)[0], home / "kpm", home / "data"
    training = ["train", config, "--data", data, "--out", tmp / "run", "--set"]
    return {
        "no data root": (["evaluate", home / "horeid", "--data", tmp / "nowhere"], "nowhere"),
        "an empty data root": (["evaluate", home / "horeid", "--data", tmp / "empty"], "empty"),
        "names that do not parse": (["evaluate", home / "horeid", "--data", tmp / "nameless"], "holiday.jpg"),
        "half a layout": (
            ["evaluate", home / "horeid", "--data", tmp / "halves", "--layout", "market1501"],
            "query",
        ),
        "an unknown protocol": (
            ["evaluate", home / "horeid", "--data", data, "--protocol", "maket"],
            "maket",
        ),
        "bf16 matching of nothing": (
            ["evaluate", home / "horeid", "--data", data, "--precision", "bf16-matching"],
            "--precision bf16-matching",
        ),
        "a matcher's weight without one": (
            ["evaluate", home / "horeid", "--data", data, "--matcher-weight", "0.5"],
            "--matcher-weight",
        ),
        "no model": (["evaluate", tmp / "nowhere", "--data", data], "nowhere"),
        "a model without weights": (["evaluate", weightless, "--data", data], "model.safetensors"),
        "weights of another model": (["evaluate", other, "--data", data], "model.safetensors"),
        "an embedder without places": (["match", a, a, "--model", home / "horeid"], "kronreid fit-places"),
        "no model to match with": (["match", a, a, "--model", tmp / "nowhere"], "--model"),
        "no picture": (["match", a, tmp / "text.jpg", "--model", kpm], "text.jpg"),
        "half a picture": (["match", truncated, a, "--model", kpm], "cut.jpg"),
        "a missing picture": (["match", a, tmp / "gone.jpg", "--model", kpm], "gone.jpg"),
        "no folder to write to": (["match", a, a, "--model", kpm, "--png", tmp / "x" / "y.png"], "--png"),
        "no gallery": (["search", a, "--gallery", tmp / "none.gallery"], "none.gallery"),
        "no config": (["train", tmp / "none.yaml"], "none.yaml"),
        "no data for a config": (["train", config, "--out", tmp / "run"], "--data"),
        "an unknown key": ([*training, "batch.size=4"], "size"),
        "a wrong type": ([*training, "batch.pictures=a"], "pictures"),
        "too few identities": ([*training, "batch.identities=9"], "9"),
        "an unknown command": (["fly"], "fly"),
        "an unknown option": (["match", a, a, "--model", kpm, "--loud"], "--loud"),
        "no number": (["search", a, "--gallery", tmp / "none.gallery", "--top", "0"], "--top"),
    }


CASES = [
    "no data root",
    "an empty data root",
    "names that do not parse",
    "half a layout",
    "an unknown protocol",
    "bf16 matching of nothing",
    "a matcher's weight without one",
    "no model",
    "a model without weights",
    "weights of another model",
    "an embedder without places",
    "no model to match with",
    "no picture",
    "half a picture",
    "a missing picture",
    "no folder to write to",
    "no gallery",
    "no config",
    "no data for a config",
    "an unknown key",
    "a wrong type",
    "too few identities",
    "an unknown command",
    "an unknown option",
    "no number",
]


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_line_and_status_2(
    home: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = bad(home, tmp_path)
    assert list(cases) == CASES
    arguments, named = cases[case]
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert run(*arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("kronreid: error: ")
    assert named in said
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("--version")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"kronreid {__version__}\n"


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Every command of the line by its words, nested ones too."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found |= commands(sub) or {sub.prog: sub}
    return found


COMMANDS = commands(make_parser())
GROUPS = sorted({"kronreid", *(name.rpartition(" ")[0] for name in COMMANDS)})


def stand_ins(parser: argparse.ArgumentParser) -> list[str]:
    """Something for everything that a command needs."""
    words: list[str] = []
    for action in parser._actions:
        if action.required:
            words += [*action.option_strings[:1], next(iter(action.choices or ["x"]))]
    return words


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["unknown", "missing", "surplus"])
def test_a_mistake_points_to_the_help_of_its_own_command(
    command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser, words = COMMANDS[command], command.split()[1:]
    needed = stand_ins(parser)
    if kind == "missing" and not needed:
        assert command in ("kronreid demo", "kronreid papers")
        return
    more = {"unknown": [*needed, "--no-such-option"], "missing": [], "surplus": [*needed, "--json-x", "y"]}[
        kind
    ]
    assert main([*words, *more]) == 2
    assert capsys.readouterr().err.endswith(f"; see '{command} --help'\n")


@pytest.mark.parametrize("group", GROUPS)
def test_a_command_that_is_not_points_to_the_help_of_the_others(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*group.split()[1:], "fly"]) == 2
    assert capsys.readouterr().err.endswith(f"; see '{group} --help'\n")


@pytest.mark.parametrize("command", ["train", "summary"])
def test_whatever_takes_a_config_takes_changes(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: {name: pooled, backbone: {name: test_resnet, weights: none}}\n")
    assert run(command, config, "--set", "model.channels=8", "--set", "batch.size=4", "data.root=x") == 2
    assert "size" in capsys.readouterr().err


def test_summary_counts_the_changed_config(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: {name: pooled, backbone: {name: resnet50, weights: imagenet}}\n")
    options = ["--set", "model.backbone.name=test_resnet", "input.height=64", "input.width=32"]
    assert run("summary", config, *options) == 0
    assert "for one 64 × 32 picture" in capsys.readouterr().out
    assert run("summary", home / "kpm", *options) == 2
    assert "--set: " in capsys.readouterr().err


def test_help_is_quick_and_complete() -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from kronreid.cli import main; main(['--help'])"],
        capture_output=True,
        text=True,
        check=False,
    )
    for command in ("demo", "train", "evaluate", "index", "search", "gallery", "match", "summary"):
        assert command in shown.stdout
    assert "torch" not in {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
