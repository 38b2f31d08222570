"""From run folders and pictures to files: small random networks on generated pedestrians."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from kronreid.data.files import find_pictures
from kronreid.data.readers import read
from kronreid.data.records import Picture, ReIDDataset
from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.explain import style
from kronreid.explain.figures_runs import draw_figures, pairs_of
from kronreid.explain.figures_temperatures import temperature
from kronreid.models.loading import load
from kronreid.models.storage import build, save

pytestmark = pytest.mark.usefixtures("coarse_figures")

SIZE = InputOptions(height=64, width=32)
BACKBONE = {"name": "test_resnet", "weights": "none"}
HOREID = {"backbone": BACKBONE, "channels": 8, "dimension": 8, "parts": 3}


def make(folder: Path, name: str, regulariser: float | None = None, **arguments) -> Path:
    torch.manual_seed(0)
    arguments = {"backbone": BACKBONE, **arguments}
    save(folder, name, arguments, SIZE, build(name, arguments))
    if regulariser is not None:
        (folder / "config.yaml").write_text(f"loss: {{regulariser: {regulariser}}}\n")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("runs")
    return {
        "with": make(home / "with", "horeid", 0.1, **HOREID),
        "without": make(home / "without", "horeid", 0.0, **HOREID | {"order": 2}),
        "kpm": make(home / "kpm", "kpm"),
        "plain": make(home / "plain", "kpm", attention=False, hourglass=False),
        "baseline": make(home / "baseline", "kpm", match=False, attention=False, hourglass=False),
        "pooled": make(home / "pooled", "pooled", channels=8),
    }


@pytest.fixture(scope="module")
def pictures(pedestrians: Path) -> list[Path]:
    return find_pictures(pedestrians / "bounding_box_train")[:2]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_pairs_are_of_one_person_from_two_cameras(pedestrians: Path) -> None:
    pairs = pairs_of(read(pedestrians), count=2)
    assert len(pairs) == 4
    for a, b in zip(pairs[::2], pairs[1::2]):
        assert a.identity == b.identity
        assert a.camera != b.camera
    assert pairs[0].identity != pairs[2].identity
    assert len(pairs_of(read(pedestrians), count=99)) == 6


def test_pairs_are_spread_over_the_people(tmp_path: Path) -> None:
    def seen(camera: int) -> tuple[Picture, ...]:
        return tuple(Picture(tmp_path / f"{i}-{camera}.jpg", i, camera) for i in range(1, 10))

    dataset = ReIDDataset("folders", "cross-camera", tmp_path, (), seen(1), seen(2))
    assert [picture.identity for picture in pairs_of(dataset)] == [1, 1, 4, 4, 7, 7]
    alone = ReIDDataset("folders", "cross-camera", tmp_path, (), seen(1), seen(1))
    with pytest.raises(InputError, match="no query has a gallery picture from another camera"):
        pairs_of(alone)


def test_a_horeid_run_gives_figures_2_4_and_6(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    drawn = draw_figures([runs["with"]], pictures, tmp_path)
    stems = {"with-similarity", "with-colours", "with-parts"}
    assert {each.name for each in drawn} == stems
    assert names(tmp_path) == {f"{stem}{end}" for stem in stems for end in (".png", ".svg")} | {
        "numbers.json"
    }
    kept = {each["name"]: each["numbers"] for each in json.loads((tmp_path / "numbers.json").read_text())}
    assert set(kept["with-similarity"]) == {"n = 1", "n = 2", "n = 3"}
    assert kept["with-parts"]["with, with DSR"]["parts"] == 3
    assert (
        1 <= kept["with-parts"]["with, with DSR"]["covered"] <= kept["with-parts"]["with, with DSR"]["places"]
    )


def test_runs_of_one_order_are_told_apart(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    again = make(tmp_path / "again", "horeid", **HOREID)
    drawn = draw_figures([runs["with"], again, runs["without"]], pictures, tmp_path / "out")
    (shared,) = (each for each in drawn if each.name == "orders-similarity")
    assert list(shared.numbers) == ["n = 2", "n = 3 (again)", "n = 3 (with)"]


def test_runs_share_figures_of_orders_and_parts(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    drawn = {each.name: each for each in draw_figures([runs["with"], runs["without"]], pictures, tmp_path)}
    assert {"orders-similarity", "parts", "with-colours", "without-colours"} <= set(drawn)
    assert set(drawn["orders-similarity"].numbers) == {"n = 2", "n = 3"}
    assert list(drawn["parts"].numbers) == ["with, with DSR", "without, without DSR"]
    # The column of n = 3 is the model of order 3's own product, not the other's.
    three = drawn["with-similarity"].numbers["n = 3"]
    assert drawn["orders-similarity"].numbers["n = 3"] == pytest.approx(three)


def test_a_kpm_run_gives_both_halves_of_figure_6(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    drawn = {each.name: each for each in draw_figures([runs["kpm"]], pictures, tmp_path, [(0.5, 0.5)])}
    temperatures = {"kpm-temperatures-attention", "kpm-temperatures-matching"}
    assert set(drawn) == {"kpm-attention", "kpm-matching"} | temperatures
    assert "collapsed" not in drawn["kpm-attention"].finding  # an untrained one is nearly even
    assert set(drawn["kpm-matching"].numbers) == {"scale-1", "scale-2", "scale-3"}
    with Image.open(tmp_path / "kpm-attention.png") as image:
        assert image.width == round(style.WIDTH * style.DPI)


def test_without_attention_there_is_none_to_draw(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    drawn = draw_figures([runs["plain"]], pictures, tmp_path)
    assert [each.name for each in drawn] == ["plain-matching", "plain-temperatures-matching"]


def test_figure_6_over_temperatures(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    """The lower the temperature, the fewer places a map covers; the model is left as it was."""
    own = load(runs["kpm"]).explain(*pictures)
    drawn = {each.name: each.numbers for each in draw_figures([runs["kpm"]], pictures, tmp_path)}
    matching, attention = (drawn[f"kpm-temperatures-{what}"] for what in ("matching", "attention"))
    covered = [each["covered"] for each in matching.values()]
    assert list(matching) == ["τ_KPM = 0.05", "τ_KPM = 0.5", "τ_KPM = 1"]
    assert covered == sorted(covered)
    assert list(attention) == ["τ_RSA = 1", "τ_RSA = 0.5", "τ_RSA = 0.1"]
    covered = [each["covered"] for each in attention.values()]
    assert covered == sorted(covered, reverse=True)
    matcher = load(runs["kpm"])
    with temperature(matcher, kpm=1.0, rsa=0.1):
        assert matcher.explain(*pictures).scales[0].correspondence.max() < own.scales[0].correspondence.max()
    again = matcher.explain(*pictures)
    assert (again.scales[0].correspondence == own.scales[0].correspondence).all()
    assert (again.scales[0].attention_a == own.scales[0].attention_a).all()


def test_runs_of_different_temperatures_share_a_figure(
    tmp_path: Path, runs: dict, pictures: list[Path]
) -> None:
    warm = make(tmp_path / "warm", "kpm", temperature=0.5)
    drawn = {each.name: each for each in draw_figures([runs["kpm"], warm], pictures, tmp_path / "out")}
    assert list(drawn["temperatures-matching"].numbers) == ["kpm: τ_KPM = 0.05", "warm: τ_KPM = 0.5"]
    assert "each model as it was trained" in drawn["temperatures-attention"].shows


def test_keypoints_give_figure_5(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    for picture in pictures:
        values = [number for x in (10, 20) for y in range(5, 50, 5) for number in (x, y, 0.9)]
        person = {"people": [{"pose_keypoints_2d": values}]}
        (tmp_path / f"{picture.stem}_keypoints.json").write_text(json.dumps(person))
    drawn = {
        each.name: each
        for each in draw_figures([runs["with"]], pictures, tmp_path / "out", keypoints=tmp_path)
    }
    numbers = drawn["with-landmarks"].numbers
    assert list(numbers) == ["n = 1", "n = 2", "n = 3"]
    assert all(-1 <= each["same"] <= 1 and 0 <= each["found"] <= 1 for each in numbers.values())
    assert (tmp_path / "out" / "with-landmarks.svg").is_file()
    with pytest.raises(InputError, match=r"--keypoints .*nowhere\.json: no such file"):
        draw_figures([runs["with"]], pictures, tmp_path / "out", keypoints=tmp_path / "nowhere.json")


def test_collapsed_attention_is_called_so(
    tmp_path: Path, runs: dict, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronreid.explain.parts.places_covered", lambda maps: 1.0)
    drawn = {each.name: each for each in draw_figures([runs["kpm"]], pictures, tmp_path)}
    assert drawn["kpm-attention"].finding.count("collapsed onto single places") == 2  # of 8 and of 32 places


def test_runs_of_one_name_are_told_apart(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    first = make(tmp_path / "a" / "best", "horeid", **HOREID | {"parts": 0})
    second = make(tmp_path / "b" / "best", "horeid", **HOREID | {"parts": 0})
    drawn = draw_figures([first, second], pictures, tmp_path / "out")
    assert {each.name for each in drawn} == {
        "a-best-similarity",
        "a-best-colours",
        "b-best-similarity",
        "b-best-colours",
    }


@pytest.mark.parametrize("name", ["pooled", "baseline"])
def test_a_run_with_nothing_to_show_is_named(
    tmp_path: Path, runs: dict, pictures: list[Path], name: str
) -> None:
    with pytest.raises(InputError, match=f"{name}: has neither high-order levels nor matching"):
        draw_figures([runs["with"], runs[name]], pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_come_in_pairs(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    for some in ([], pictures[:1]):
        with pytest.raises(InputError, match=r"--pictures: . given; give pairs"):
            draw_figures([runs["with"]], some, tmp_path / "out")


def test_a_run_named_twice_is_refused(tmp_path: Path, runs: dict, pictures: list[Path]) -> None:
    with pytest.raises(InputError, match="is named twice"):
        draw_figures([runs["with"], runs["with"]], pictures, tmp_path / "out")
