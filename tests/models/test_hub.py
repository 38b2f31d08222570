"""Models by hub id: their files, nothing else, and no word to the network about what is a slip in a path."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models import hub
from kronreid.models.loading import load
from kronreid.models.storage import build, save


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """A hub in a folder that holds one model; the list fills with what it was asked for."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append({"name": name, "revision": revision, "allow_patterns": allow_patterns})
        arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}
        folder = tmp_path / "snapshot"
        save(folder, "pooled", arguments, InputOptions(64, 32), build("pooled", arguments))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.mark.parametrize(
    ("hub_id", "revision"),
    [("people/horeid", None), ("people/horeid@v1.2", "v1.2"), ("a/b@refs/pr/1", "refs/pr/1")],
)
def test_a_hub_id_is_fetched(
    asked: list[dict[str, Any]], tmp_path: Path, hub_id: str, revision: str | None
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
            ],
        }
    ]
    assert embedder.path == tmp_path / "snapshot"
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
