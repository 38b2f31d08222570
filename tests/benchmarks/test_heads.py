"""Heads: each re-scores what it says, and places are those of the library."""

import json
from pathlib import Path

import pytest
import torch

import heads
from heads import Untrained, Verification, as_places, replaced
from kronreid.data.readers import read
from kronreid.data.transforms import InputOptions
from kronreid.evaluation import evaluate_dataset
from kronreid.models.loading import load
from kronreid.models.places import Described
from kronreid.models.storage import build, save
from kronreid.ops.places import Places
from kronreid.training.places import FitOptions, fit_places
from robustness import CHANGES, ORIGINAL

unit = torch.nn.functional.normalize


def described(count: int, seed: int) -> Described:
    random = torch.Generator().manual_seed(seed)
    places = unit(torch.randn(count, 6, 4, generator=random), dim=2)
    vectors = unit(torch.randn(count, 5, generator=random))
    return Described(vectors, [Places(places, torch.empty(count, 0), torch.zeros(count, places.shape[1]))])


@torch.no_grad()
def test_the_verification_head_is_kpms_baseline() -> None:
    head = Verification(5, cosine=True).eval()
    torch.nn.init.normal_(head.linear.weight)
    head.norm.running_mean.uniform_(0, 1)  # type: ignore[union-attr, operator]
    pictures = as_places(described(2, 0))
    x, y = pictures.vectors
    sides = ([pictures[row : row + 1].levels[0]] for row in torch.arange(2))
    expected = 10 * float(x @ y) + float(head.linear.bias)
    for c in range(5):
        deviation = float(head.norm.running_var[c] + head.norm.eps) ** 0.5  # type: ignore[index]
        normal = (float(x[c] - y[c]) ** 2 - float(head.norm.running_mean[c])) / deviation  # type: ignore[index]
        expected += float(head.linear.weight[0, c]) * normal
    assert head((x @ y)[None], *sides).item() == pytest.approx(expected, abs=1e-5)


def test_untrained_matches_are_means_of_both_maxima() -> None:
    x, y = (described(1, seed).levels[0] for seed in (0, 1))
    products = x.unit()[0] @ y.unit()[0].t()
    expected = (sum(row.max() for row in products) + sum(row.max() for row in products.t())) / 12
    assert Untrained()(torch.zeros(1), [x], [y]).item() == pytest.approx(float(expected))


def test_other_pictures_take_their_rows() -> None:
    pictures, others = described(5, 0), described(2, 1)
    found = replaced(pictures, torch.tensor([3, 1]), others)
    rows = [pictures[0:1], others[1:2], pictures[2:3], others[0:1], pictures[4:5]]
    assert torch.equal(found.vectors, torch.cat([row.vectors for row in rows]))
    assert torch.equal(found.levels[0].numbers, torch.cat([row.levels[0].numbers for row in rows]))


def test_the_command_compares_all_heads(
    pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "FitOptions", lambda: FitOptions(steps=5))
    monkeypatch.setattr(heads, "CHANGES", {name: CHANGES[name] for name in (ORIGINAL, "flipped")})
    torch.manual_seed(0)
    options = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 16}
    run = tmp_path / "run" / "seed-0"
    save(run, "pooled", options, InputOptions(64, 32), build("pooled", options))
    assert heads.main([str(run), f"--data={pedestrians}", f"--json={tmp_path}/heads.json"]) == 0
    figures = json.loads((tmp_path / "heads.json").read_text())
    names = ["vectors", "verification", "verification + cosine", "best matches, untrained", "places"]
    printed = capsys.readouterr().out.splitlines()
    assert all(name in printed[0] + "".join(printed) for name in names)
    assert all(0 < figures[f"run: {name}, {change}: mAP"] <= 1 for name in names for change in heads.CHANGES)

    embedder, dataset = load(run, device="cpu"), read(pedestrians)
    embedder.places = fit_places(embedder, dataset.train, FitOptions(steps=5))
    result = evaluate_dataset(embedder, dataset, protocol=dataset.protocol)
    assert result.first_stage is not None
    assert figures[f"run: vectors, {ORIGINAL}: mAP"] == pytest.approx(result.first_stage.mAP)
    assert figures[f"run: places, {ORIGINAL}: mAP"] == pytest.approx(result.mAP, abs=1e-3)


def test_a_pair_model_is_refused(
    pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"backbone": {"name": "test_resnet", "weights": "none"}, "hourglass": False}
    save(tmp_path / "kpm", "kpm", options, InputOptions(64, 32), build("kpm", options))
    assert heads.main([str(tmp_path / "kpm"), f"--data={pedestrians}"]) == 2
    assert "is a pair model" in capsys.readouterr().err
