"""Robustness: the changes are what they say, and every model meets the same ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import robustness
from kronreid.data.readers import read
from kronreid.data.records import Picture, ReIDDataset
from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.evaluation import evaluate_dataset
from kronreid.models.loading import load
from kronreid.models.storage import build, save
from robustness import CHANGES, ORIGINAL, Figures, cover, cover_box, few, flip, shift, zoom

pictures = st.tuples(st.integers(8, 40), st.integers(8, 40)).flatmap(
    lambda size: arrays(np.uint8, (*size, 3)).map(Image.fromarray)
)
shares = st.floats(-0.3, 0.3)


def gradient(height: int = 60, width: int = 30) -> Image.Image:
    """Red says the row, green the column."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([4 * rows, 4 * columns, 0 * rows], 2).astype(np.uint8))


@given(pictures, st.sampled_from(sorted(CHANGES)), st.integers(0, 99))
def test_a_change_makes_a_new_picture_of_the_same_size(image: Image.Image, name: str, seed: int) -> None:
    before = image.tobytes()
    first, again = (CHANGES[name](image, np.random.default_rng(seed)) for _ in range(2))
    assert (first.size, first.mode) == (image.size, "RGB")
    assert first.tobytes() == again.tobytes()
    assert image.tobytes() == before
    if name == ORIGINAL:
        assert first.tobytes() == before


@given(pictures, shares, shares)
def test_what_is_not_shifted_out_is_moved_and_the_edge_follows(
    image: Image.Image, right: float, down: float
) -> None:
    old, new = np.asarray(image), np.asarray(shift(image, right, down))
    height, width = old.shape[:2]
    for y in range(height):
        for x in range(width):
            source = (
                min(max(y - round(down * height), 0), height - 1),
                min(max(x - round(right * width), 0), width - 1),
            )
            assert (new[y, x] == old[source]).all()


def test_a_shift_is_to_the_right_and_down() -> None:
    moved = np.asarray(shift(gradient(), 0.1, 0.2))
    assert moved[30, 20].tolist() == [4 * (30 - 12), 4 * (20 - 3), 0]
    assert moved[0, 20].tolist() == [0, 4 * 17, 0]


@given(pictures)
def test_zooming_by_one_changes_nothing_and_a_plain_picture_stays_plain(image: Image.Image) -> None:
    assert zoom(image, 1).tobytes() == image.tobytes()
    plain = Image.new("RGB", image.size, (10, 200, 30))
    for factor in (0.8, 0.9, 1.1, 1.2):
        assert zoom(plain, factor).tobytes() == plain.tobytes()


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.2])
def test_zooming_scales_about_the_middle(factor: float) -> None:
    small, large = np.asarray(gradient()).astype(float), np.asarray(zoom(gradient(), factor)).astype(float)
    rows, columns = np.mgrid[15:45, 8:22]  # far from what is replicated
    # Pixel centres lie at 0.5, 1.5, …
    expected = 4 * ((rows + 0.5 - 30) / factor + 30 - 0.5), 4 * ((columns + 0.5 - 15) / factor + 15 - 0.5)
    assert np.abs(large[rows, columns, 0] - expected[0]).max() <= 1.5
    assert np.abs(large[rows, columns, 1] - expected[1]).max() <= 1.5
    if factor < 1:  # the border repeats the edge
        assert large[0, 15, 0] == small[0, 15, 0]
        assert large[-1, 15, 0] == small[-1, 15, 0]


@given(pictures)
def test_flipping_twice_changes_nothing(image: Image.Image) -> None:
    assert (np.asarray(flip(image)) == np.asarray(image)[:, ::-1]).all()
    assert flip(flip(image)).tobytes() == image.tobytes()


def test_the_three_bands_are_thirds_that_make_up_the_picture() -> None:
    image = gradient(60, 30)
    mean = np.asarray(image).reshape(-1, 3).mean(0).round()
    covered = []
    for name in ("top", "middle", "bottom"):
        new = np.asarray(CHANGES[f"{name} third covered"](image, np.random.default_rng(0)))
        inside = (new == mean).all(2)
        assert (new[~inside] == np.asarray(image)[~inside]).all()
        covered.append(inside)
        assert inside.sum() == 20 * 30
    assert (np.sum(covered, 0) == 1).all()
    assert covered[0][:20].all()
    assert covered[2][40:].all()


@given(st.integers(0, 10_000))
def test_a_random_box_covers_a_third(seed: int) -> None:
    image = gradient(120, 60)
    new = np.asarray(cover_box(image, np.random.default_rng(seed)))
    mean = np.asarray(image).reshape(-1, 3).mean(0).round()
    assert not (np.asarray(image) == mean).all(2).any()
    inside = (new == mean).all(2)
    assert inside.mean() == pytest.approx(1 / 3, abs=0.02)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 0.4 <= len(rows) / 120 <= 0.83


def test_boxes_and_sides_differ_between_queries() -> None:
    boxes = {cover_box(gradient(), np.random.default_rng(seed)).tobytes() for seed in range(20)}
    assert len(boxes) == 20
    sides = {robustness.side(np.random.default_rng(seed)) for seed in range(20)}
    assert sides == {-1, 1}


def test_covering_uses_the_pictures_own_mean() -> None:
    image = Image.new("RGB", (4, 4), (0, 0, 0))
    for x in range(4):
        image.putpixel((x, 0), (200, 100, 40))
    assert cover(image, 0, 0.5, 0.5, 0.5).getpixel((0, 3)) == (50, 25, 10)


# --- models ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models: gap with two seeds, kpm."""
    folder = tmp_path_factory.mktemp("models")
    backbone = {"name": "test_resnet", "weights": "none"}
    size = InputOptions(64, 32)
    for place, name, more in (
        ("gap/seed-0", "pooled", {"channels": 16}),
        ("gap/seed-1", "pooled", {"channels": 16}),
        ("kpm", "kpm", {"hourglass": False}),
    ):
        arguments: dict[str, Any] = {"backbone": backbone, **more}
        save(folder / place, name, arguments, size, build(name, arguments))
    return folder


def changed_by_hand(dataset: ReIDDataset, name: str, seed: int, folder: Path) -> ReIDDataset:
    """The data set with changed queries in files without loss."""
    queries = []
    for number, picture in enumerate(dataset.query):
        with Image.open(picture.path) as image:
            draw = np.random.default_rng([seed, number, list(CHANGES).index(name)])
            path = folder / f"{number}.png"
            CHANGES[name](image.convert("RGB"), draw).save(path)
        queries.append(Picture(path, picture.identity, picture.camera))
    return ReIDDataset(
        dataset.name, dataset.protocol, dataset.root, dataset.train, tuple(queries), dataset.gallery
    )


def test_models_are_evaluated_on_the_changed_queries(models: Path, pedestrians: Path, tmp_path: Path) -> None:
    dataset, names = read(pedestrians), [ORIGINAL, "random third covered", "shifted sideways by 20 %"]
    gap, kpm = models / "gap" / "seed-0", models / "kpm"
    table = robustness.measure([gap, kpm], kpm, dataset, "market1501", names, seed=3)
    assert list(table) == ["gap", "gap + kpm", "kpm"]
    for name in names:
        changed = changed_by_hand(dataset, name, 3, tmp_path)
        tools = {"gap": load(gap), "kpm": load(kpm)}
        for line, first, second in (
            ("gap", "gap", None),
            ("kpm", "kpm", None),
            ("gap + kpm", "gap", "kpm"),
        ):
            matcher = tools[second] if second else None
            expected = evaluate_dataset(tools[first], changed, matcher=matcher)  # type: ignore[arg-type]
            assert table[line][name].mAP == pytest.approx(expected.mAP)
            assert table[line][name].rank1 == pytest.approx(expected.rank1)
    assert (table["gap"][names[1]].precision != table["gap"][ORIGINAL].precision).any(), (
        "an untrained model, too, ranks a covered person otherwise"
    )


def test_gallery_vectors_are_computed_once(models: Path, pedestrians: Path) -> None:
    dataset = read(pedestrians)
    tool = load(models / "gap" / "seed-0")
    changed = robustness.wrapped(tool, dataset.query, 0)
    paths = [picture.path for picture in (*dataset.query, *dataset.gallery)]
    counts = []
    embed = tool.embed

    def counting(images: Any, **options: Any) -> np.ndarray:
        counts.append(len(images))
        return embed(images, **options)

    tool.embed = counting  # type: ignore[method-assign]
    first = changed.embed(paths)
    assert np.allclose(first, embed(paths), atol=1e-6)
    changed.change = "flipped"
    second = changed.embed(paths)
    queries, gallery = len(dataset.query), len(dataset.gallery)
    assert counts == [queries + gallery, queries]
    assert (first[queries:] == second[queries:]).all()
    assert (first[:queries] != second[:queries]).any(1).all()


def test_seeds_of_a_row_are_one_line_their_mean(models: Path, pedestrians: Path) -> None:
    dataset, names = read(pedestrians), [ORIGINAL, "flipped"]
    seeds = [models / "gap" / f"seed-{seed}" for seed in (0, 1)]
    both = robustness.measure(seeds, None, dataset, "market1501", names, 0)
    each = [robustness.measure([path], None, dataset, "market1501", names, 0)["gap"] for path in seeds]
    assert list(both) == ["gap"]
    for name in names:
        assert both["gap"][name].mAP == pytest.approx((each[0][name].mAP + each[1][name].mAP) / 2)
        assert both["gap"][name].rank1 == pytest.approx((each[0][name].rank1 + each[1][name].rank1) / 2)


def test_a_drop_is_of_each_query_against_itself() -> None:
    original = Figures(np.array([1.0, 0.5, np.nan, 0.75]), 1.0)
    changed = Figures(np.array([0.75, 0.5, np.nan, 0.25]), 0.5)
    drop, error = changed.drop(original)
    assert original.mAP == 0.75
    assert drop == pytest.approx(0.25)
    assert error == pytest.approx(0.25 / 3**0.5)  # of 0.25, 0 and 0.5
    assert original.drop(original) == (0, 0)


def test_the_fewer_of_lines_and_changes_go_across() -> None:
    better, worse = Figures(np.array([0.75, 0.25]), 0.5), Figures(np.array([0.5, 0.25]), 0.5)
    figures = {ORIGINAL: better, "flipped": worse}
    assert robustness.markdown({"a": figures, "b": figures}).splitlines() == [
        "| query pictures | a | b |",
        "| --- | --: | --: |",
        f"| {ORIGINAL} | 50.0 | 50.0 |",
        "| flipped | 37.5 (−12.5) | 37.5 (−12.5) |",
    ]
    assert robustness.markdown({"a": figures, "b": figures, "c": figures}).splitlines()[:3] == [
        f"|  | {ORIGINAL} | flipped |",
        "| --- | --: | --: |",
        "| a | 50.0 | 37.5 (−12.5) |",
    ]


def test_few_queries_are_spread_over_all() -> None:
    queries = [Picture(Path(str(number)), number, 0) for number in range(10)]
    assert [picture.identity for picture in few(queries, 4)] == [0, 3, 6, 9]
    assert few(queries, None) == few(queries, 99) == tuple(queries)


def test_the_command_writes_table_figures_and_chart(
    models: Path, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"--json={tmp_path}/r.json", f"--png={tmp_path}/r.png"]
    arguments = [str(models / "gap" / "seed-0"), f"--data={pedestrians}", "--queries=3", *files]
    assert robustness.main(arguments) == 0
    figures = json.loads((tmp_path / "r.json").read_text())
    assert figures["queries"] == 3
    assert figures["gap, flipped: drop"] == pytest.approx(
        figures[f"gap, {ORIGINAL}: mAP"] - figures["gap, flipped: mAP"]
    )
    assert len(figures) == 3 + 4 * len(CHANGES)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "| query pictures | gap |"
    assert printed[2] == f"| {ORIGINAL} | {100 * figures[f'gap, {ORIGINAL}: mAP']:.1f} |"
    lost = f"{-100 * figures['gap, flipped: drop']:+.1f}".replace("-", "−")
    assert f"| flipped | {100 * figures['gap, flipped: mAP']:.1f} ({lost}) |" in printed
    with Image.open(tmp_path / "r.png") as png:
        assert png.width == 1440


def test_bad_input_is_said(
    models: Path, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gap = str(models / "gap" / "seed-0")
    for arguments, message in (
        ([gap, f"--data={pedestrians}", f"--matcher={gap}"], "is an embedder"),
        ([str(tmp_path / "none"), f"--data={pedestrians}"], "no such model folder"),
        ([gap, f"--data={pedestrians}", f"--png={tmp_path}/none/x.png"], "there is no folder"),
    ):
        assert robustness.main(arguments) == 2
        assert message in capsys.readouterr().err
    dataset = read(pedestrians)
    both = ReIDDataset("x", "no-camera", pedestrians, (), dataset.query, dataset.query)
    with pytest.raises(InputError, match="also in the gallery"):
        robustness.measure([Path(gap)], None, both, "no-camera", [ORIGINAL], 0)
