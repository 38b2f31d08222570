"""The measurement of tracking on tiny streets: the figures are there, and they tell right from wrong."""

import json
from pathlib import Path

import pytest
import torch

import track

pytest.importorskip("av")

TINY = ("--backbone=test_resnet", "--height=64", "--width=32", "--parts=8", "--cameras=2", "--people=4")


def measured(file: Path, *arguments: str) -> dict[str, float]:
    threads = torch.get_num_threads()
    track.main([f"--json={file}", f"--threads={threads}", *TINY, *arguments])
    return json.loads(file.read_text())


def test_known_boxes(tmp_path: Path) -> None:
    figures = measured(tmp_path / "track.json", "--duration=7", "--seeds", "3")
    assert figures["idf1"] > 0.8
    assert 0 < figures["cross_camera_f1"] <= 1
    assert figures["id_switches"] <= 2
    assert figures["tracklets"] >= figures["true_people"] > 1
    assert figures["frames_per_second"] > 0
    assert figures["rss_end_mb"] > 100
    shares = [figures[f"{part}_share"] for part in track.PARTS]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0


def test_memory_over_a_long_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "HOUR", 8.0)
    figures = measured(tmp_path / "track.json", "--hour", "--seeds", "3")
    assert figures["frames"] == 80
    assert 100 < figures["rss_start_mb"] <= figures["rss_most_mb"]
    assert figures["rss_end_mb"] <= figures["rss_most_mb"]
