"""The measurement of place matching at a tiny size: all figures are there, and the work is really done."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import places
from kronreid.models.places import PlaceMatching

FIGURES = {
    "pairs_per_second",
    "over_reference",
    "fraction_of_gemm",
    "rerank_100_ms",
    "bytes_per_picture",
    "extra_mb",
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("QUERIES", dict.fromkeys(("cpu", "cuda"), 3)),
        ("CANDIDATES", dict.fromkeys(("cpu", "cuda"), 9)),
        ("REFERENCE", (2, 4)),
        ("GALLERY", 101),
        ("SEARCHES", 3),
    ):
        monkeypatch.setattr(places, name, value)


def measured(file: Path, *arguments: str) -> dict[str, float]:
    threads = torch.get_num_threads()
    places.main([f"--json={file}", "--seconds=0", f"--threads={threads}", *arguments])
    return json.loads(file.read_text())


def test_the_figures_are_there(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = measured(tmp_path / "places.json")
    assert figures.keys() >= FIGURES
    assert not any(name.startswith("market") for name in figures)
    assert figures["bytes_per_picture"] == 72 * (64 + 2 + 2)
    assert figures["largest_difference"] < 1e-4
    assert all(figures[name] > 0 for name in FIGURES - {"extra_mb"})
    over = figures["pairs_per_second"] / figures["reference_pairs_per_second"]
    assert figures["over_reference"] == pytest.approx(over)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(figures)


def test_the_exhaustive_run_scores_every_pair(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[tuple[int, int]] = []
    score = PlaceMatching.score

    def watched(self: PlaceMatching, queries: places.Described, *others: places.Described) -> torch.Tensor:
        scores = score(self, queries, *others)
        scored.append(tuple(scores.shape))
        return scores

    monkeypatch.setattr(PlaceMatching, "score", watched)
    figures = measured(tmp_path / "places.json", "--exhaustive", "--scale=0.03")
    queries, gallery = int(0.03 * 3368), int(0.03 * 19732)
    blocks = [shape for shape in scored if shape[1] == gallery]
    assert sum(rows for rows, _ in blocks) == queries
    assert figures["market_exhaustive_pairs"] == queries * gallery
    assert figures["market_exhaustive_s"] > 0
    assert figures["market_exhaustive_best_is_right"] > 0.9, "a person's pictures are alike"


def test_pictures_of_a_person_are_alike() -> None:
    pictures = places.make_pictures(np.array([1, 1, 2, 0, 0]), 0, "cpu")
    cosines = pictures.vectors @ pictures.vectors.t()
    unit = pictures.levels[0].unit()
    matches = torch.einsum("aid,bid->ab", unit, unit) / unit.shape[1]
    for alike in (cosines, matches):
        assert alike[0, 1] > 0.3
        assert alike[0, 2:].abs().max() < 0.15
        assert alike[3, 4].abs() < 0.15, "distractors are nobody's"
