"""Models by hub id: their files, nothing else, and no word to the network about what is a slip in a path."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError

from kronreid.cli import main
from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models import hub
from kronreid.models.calibration import Calibration, ScoreCalibration, save_calibration
from kronreid.models.card import MARK
from kronreid.models.hub import push
from kronreid.models.inference import Embedder
from kronreid.models.loading import load
from kronreid.models.places import PlaceMatching, PlacesOptions, places_fingerprint, save_places
from kronreid.models.storage import build, save

from .fake_hub import TOKEN, FakeHub, fake_hub

ARGUMENTS: dict[str, Any] = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub, and a token that it accepts."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    with fake_hub(str(tmp_path / "cache")) as hub:
        yield hub


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is only read."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(folder, "pooled", ARGUMENTS, InputOptions(64, 32), build("pooled", ARGUMENTS))
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A run's folder with everything that a training leaves, places and a calibration."""
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    embedder = load(folder)
    assert isinstance(embedder, Embedder)
    maps = next(iter(embedder.embeddings([np.zeros((64, 32, 3), np.uint8)]))).maps
    options = PlacesOptions(levels=("X_1",), numbers=4)
    save_places(folder, PlaceMatching(options, [tuple(maps["X_1"].shape[1:])]), embedder.fingerprint)
    score = ScoreCalibration(10.0, -5.0, (0.9, 0.8), ())
    calibration = Calibration("folders", "people", "cross-camera", 5, 12, 0.5, score, score)
    save_calibration(folder, calibration, embedder.fingerprint, places_fingerprint(folder))
    for name in ("last.ckpt", "config.yaml", "history.csv", "notes.json", "tensorboard/events"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


# ── uploads ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_comes_back_as_it_was_sent(served: FakeHub, run: Path) -> None:
    there = load(run)
    assert push(run, "org/people").startswith(f"{served.address}/org/people/commit/")
    files = {"config.json", "model.safetensors", "places.safetensors", "calibration.json", "README.md"}
    assert served.repositories["org/people"].files.keys() == files
    back = load("org/people")
    assert back.path is not None
    assert {path.name for path in back.path.iterdir()} == files
    assert back.fingerprint == there.fingerprint
    assert back.calibration == there.calibration
    assert isinstance(back, Embedder)
    assert back.places is not None
    card = ModelCard.load(back.path / "README.md")
    assert card.data.library_name == "kronreid"
    assert 'kronreid.load("org/people")' in card.text
    assert MARK not in card.content
    assert not any("tensorboard" in path or "ckpt" in path for path in served.asked)


def test_files_of_an_earlier_model_do_not_stay(served: FakeHub, run: Path) -> None:
    push(run, "org/people")
    repository = served.repositories["org/people"]
    repository.files["extra.txt"] = b"somebody's"
    (run / "places.safetensors").unlink()
    push(run, "org/people")  # its calibration was of the places
    assert repository.files.keys() == {"config.json", "model.safetensors", "README.md", "extra.txt"}


def test_a_card_of_ones_own_is_sent_as_it_is(served: FakeHub, run: Path) -> None:
    text = "---\nlicense: mit\n---\n\nMy own words.\n"
    (run / "README.md").write_text(text)
    push(run, "org/people")
    assert served.repositories["org/people"].files["README.md"].decode() == text
    assert (run / "README.md").read_text() == text


@pytest.mark.parametrize("private", [True, False])
def test_private_is_private(served: FakeHub, run: Path, private: bool) -> None:
    assert main(["push", str(run), "org/people", *(["--private"] if private else [])]) == 0
    assert served.repositories["org/people"].private is private


def refusal(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["push", *map(str, arguments)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("kronreid: error: ")
    assert sum("error" in line for line in said) == 1
    assert TOKEN not in said[-1]
    return said[-1]


def test_what_is_public_is_not_made_private_by_a_push(
    served: FakeHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(run, "org/people")
    before = served.repositories["org/people"].commits
    assert "is a public repository" in refusal([run, "org/people", "--private"], capsys)
    assert served.repositories["org/people"].commits == before


def without_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()


def with_a_path(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["arguments"]["backbone"]["weights"] = "/home/me/imagenet.safetensors"
    (run / "config.json").write_text(json.dumps(config))


def with_damaged_places(run: Path) -> None:
    (run / "places.safetensors").write_bytes(b"no places")


def gone(run: Path) -> None:
    shutil.rmtree(run)


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (gone, "org/people", "no such model folder"),
        (without_weights, "org/people", "has no model.safetensors"),
        (with_a_path, "org/people", "'/home/me/imagenet.safetensors'"),
        (with_damaged_places, "org/people", "places.safetensors: damaged"),
        (None, "people", "people: is no name on the hub"),
        (None, "org/people@main", "org/people@main: is no name on the hub"),
        (None, "org/a--b", "org/a--b: the Hugging Face hub refuses it"),
        (None, "others/people", "others/people: the Hugging Face hub refuses it"),
    ],
)
def test_bad_uploads_get_one_line(
    served: FakeHub,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None] | None,
    name: str,
    words: str,
) -> None:
    if change:
        change(run)
    assert words in refusal([run, name], capsys)
    assert not served.repositories


@pytest.mark.parametrize("token", [None, "", "hf_wrong"])
def test_a_token_is_needed(
    served: FakeHub,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    said = refusal([run, "org/people"], capsys)
    assert ("refuses it" if token else "HF_TOKEN: is not set") in said
    assert not served.repositories


def test_no_network(served: FakeHub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served.server.server_close()
    assert "org/people: the Hugging Face hub cannot be reached" in refusal([run, "org/people"], capsys)


# ── downloads ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, saved: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """A hub in a folder that holds one model; the list fills with what it was asked for."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append({"name": name, "revision": revision, "allow_patterns": allow_patterns})
        return str(saved)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.mark.parametrize(
    ("hub_id", "revision"),
    [("people/horeid", None), ("people/horeid@v1.2", "v1.2"), ("a/b@refs/pr/1", "refs/pr/1")],
)
def test_a_hub_id_is_fetched(
    asked: list[dict[str, Any]], saved: Path, hub_id: str, revision: str | None
) -> None:
    embedder = load(hub_id, device="cpu")
    assert asked == [
        {
            "name": hub_id.partition("@")[0],
            "revision": revision,
            "allow_patterns": [
                "config.json",
                "model.safetensors",
                "places.safetensors",
                "calibration.json",
                "README.md",
            ],
        }
    ]
    assert embedder.path == saved
    assert embedder.embed(np.zeros((64, 32, 3), np.uint8)).shape == (1, 8)
    assert json.loads((embedder.path / "config.json").read_text())["name"] == "pooled"


@pytest.mark.parametrize("path", ["runs/horied", "horeid", "a/b/c", "/a/b", "../b", "a b/c", "a/", "file/b"])
def test_what_is_a_path_is_not_sent(asked: list[dict[str, Any]], tmp_path: Path, path: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "b").touch()
    with pytest.raises(InputError, match=f"^{path}: no such model folder"):
        load(path)
    assert asked == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LocalEntryNotFoundError("cannot find"), "cannot be reached"),
        (OSError("401 Client\nError"), "refuses it: 401 Client Error"),
    ],
)
def test_no_connection_and_no_such_model(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(InputError, match=f"^people/none: there is no such folder, and .*{words}") as caught:
        load("people/none")
    assert "\n" not in str(caught.value)


def test_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's own code, told that there is no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=r"^people/none-of-this-name: there is no such folder, and the Hugging"
    ):
        load("people/none-of-this-name")
