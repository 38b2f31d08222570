"""Alignment: four ways to compare the same maps, each against what it says."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import alignment
from alignment import WAYS, Maps
from kronreid.data.readers import read
from kronreid.data.transforms import InputOptions
from kronreid.models.storage import build, save
from kronreid.ops.blocks import prepare
from kronreid.ops.matching import match_reference


def shown(maps: Tensor) -> Maps:
    """As `maps_of` makes them of a network's maps (N, C, H, W)."""
    unit = torch.nn.functional.normalize
    return Maps(unit(maps.mean((2, 3))), prepare(unit(maps, dim=1)))


def test_each_way_is_what_it_says() -> None:
    torch.manual_seed(0)
    query, gallery = torch.randn(3, 5, 4, 2), torch.randn(4, 5, 4, 2)
    for q in range(3):
        for g in range(4):
            x, y = (one / one.norm(dim=0) for one in (query[q].flatten(1), gallery[g].flatten(1)))
            warped = match_reference(x[None], y[None]).warped[0]
            means = query[q].mean((1, 2)), gallery[g].mean((1, 2))
            expected = {
                "averages": torch.cosine_similarity(*means, dim=0),
                "place by place": -(x - y).square().sum(0).mean(),
                "warped, squared after": -(x - warped).mean(1).square().sum(),
                "warped, squared before": -(x - warped).square().sum(0).mean(),
            }
            assert set(expected) == set(WAYS)
            for way, value in expected.items():
                found = WAYS[way](shown(query), shown(gallery))[q, g]
                assert found == pytest.approx(float(value), abs=1e-5), way


def test_a_shifted_map_is_found_by_warping_alone() -> None:
    torch.manual_seed(0)
    query, other = torch.randn(2, 1, 16, 6, 3)
    gallery = torch.cat(
        [query.roll(2, dims=2), (query + other) / 2**0.5]
    )  # the same moved; half of it in place
    moved, rival = (WAYS["place by place"](shown(query), shown(gallery))[0]).tolist()
    assert moved < rival
    moved, rival = (WAYS["warped, squared before"](shown(query), shown(gallery))[0]).tolist()
    assert moved > rival


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pooled", {"channels": 16}),
        ("horeid", {"channels": 16, "dimension": 32, "parts": 2, "order": 2}),
        ("kpm", {"hourglass": False}),
    ],
)
def test_the_command_compares_every_model(
    name: str, options: dict, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"backbone": {"name": "test_resnet", "weights": "none"}, **options}
    save(tmp_path / "run" / "seed-0", name, options, InputOptions(64, 32), build(name, options))
    files = [f"--json={tmp_path}/a.json", f"--png={tmp_path}/a.png"]
    assert (
        alignment.main([str(tmp_path / "run" / "seed-0"), f"--data={pedestrians}", "--queries=3", *files])
        == 0
    )
    figures = json.loads((tmp_path / "a.json").read_text())
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "| query pictures | " + " | ".join(f"run, {way}" for way in WAYS) + " |"
    assert len(printed) - 3 == len(alignment.SHIFTS) == 5
    assert all(0 <= figures[f"run, {way}, {shift}: mAP"] <= 1 for way in WAYS for shift in alignment.SHIFTS)
    with Image.open(tmp_path / "a.png") as png:
        assert png.width == round(200 * (1.3 + 1.5))
    assert len(read(pedestrians).query) > 3  # so the trial was one


def test_a_missing_folder_is_one_line(
    pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alignment.main([str(tmp_path / "none"), f"--data={pedestrians}"]) == 2
    assert capsys.readouterr().err.startswith("alignment: error: ")
