"""Thresholds and probabilities of a calibration, its file, and when that file is not used."""

import json
import logging
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.calibration import (
    CALIBRATION,
    Calibration,
    OperatingPoint,
    Score,
    ScoreCalibration,
    SimilarityLimit,
    load_calibration,
    probability,
    save_calibration,
    similarity_limit,
)
from kronreid.models.inference import Embedder
from kronreid.models.loading import load
from kronreid.models.places import PLACES, PlaceMatching, PlacesOptions, places_fingerprint, save_places
from kronreid.models.storage import build, save

#: As found in 100 pictures: the best strangers' scores are 0.99, 0.98 … 0.
POINT = OperatingPoint(rate=0.01, threshold=0.98, low=0.9, high=0.99, found=0.5)
COSINES = ScoreCalibration(20.0, -10.0, tuple(round(1 - n / 100, 2) for n in range(1, 101)), (POINT,))
LOGITS = ScoreCalibration(0.5, -1.0, (3.0, 2.0, 1.0), ())
KNOWN = Calibration("market1501", "people", "market1501", 50, 100, 0.5, COSINES, LOGITS)

rates = st.floats(1e-6, 1 - 1e-6)
sizes = st.integers(1, 10**7)


def threshold(rate: float, size: int | None) -> float:
    """Infinite where there are too few searches for one."""
    try:
        return KNOWN.threshold(rate, size)
    except InputError:
        return math.inf


def test_thresholds_of_the_gallery_that_was_measured() -> None:
    assert KNOWN.threshold(0.01) == 0.98  # one of the 100 searches reaches it
    assert KNOWN.threshold(0.029) == 0.97
    assert KNOWN.threshold(0.03, 100) == 0.96
    assert KNOWN.threshold(1 - 1e-9) == 0.0
    assert KNOWN.threshold(0.5, score="logit") == 2.0


def test_thresholds_of_other_galleries() -> None:
    """1 − (1 − p)^G: 0.0199 in twice as many pictures is 0.01 in those that were measured."""
    assert KNOWN.threshold(0.0199, 200) == KNOWN.threshold(0.01)
    assert KNOWN.threshold(0.1, 50) == KNOWN.threshold(0.19)
    p = 1 - (1 - 0.05) ** (1 / 100)
    assert KNOWN.threshold(1 - (1 - p) ** 777, 777) == KNOWN.threshold(0.05)


@given(rates, rates, sizes, sizes)
def test_thresholds_rise_with_the_gallery_and_fall_with_the_rate(
    rate: float, other: float, size: int, more: int
) -> None:
    low, high = sorted((rate, other))
    small, large = sorted((size, more))
    assert threshold(high, small) <= threshold(low, small) <= threshold(low, large)


@given(sizes)
def test_rarest_is_the_lowest_rate_with_a_threshold(size: int) -> None:
    rarest = KNOWN.rarest(size)
    if rarest < 1 - 1e-6:
        assert KNOWN.threshold(rarest, size) == KNOWN.threshold(0.01)
        assert threshold(rarest * (1 - 1e-3), size) == math.inf


def test_too_few_searches_are_said_to_be_too_few() -> None:
    with pytest.raises(
        InputError, match=r"^rate 0.001: .* at least 1,000 searches in 100 .*; this one has 100"
    ):
        KNOWN.threshold(1e-3)
    with pytest.raises(InputError, match=r"gallery of 10,000 pictures .* at least 99,9\d\d searches"):
        KNOWN.threshold(1e-3, 10_000)
    with pytest.raises(InputError, match="far more searches"):
        KNOWN.threshold(5e-324, 10**9)


@pytest.mark.parametrize(
    ("rate", "size", "score", "named"),
    [
        (0.0, None, "similarity", "rate 0.0: "),
        (1.0, None, "similarity", "rate 1.0: "),
        (math.nan, None, "similarity", "rate nan: "),
        (0.1, 0, "similarity", "gallery_size 0: "),
        (0.1, None, "logit", "score: 'logit' is not calibrated; this model's calibration has similarity"),
    ],
)
def test_what_there_is_no_threshold_for(rate: float, size: int | None, score: Score, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}"):
        replace(KNOWN, logit=None).threshold(rate, size, score)


def test_one_search_has_a_threshold_for_no_rate() -> None:
    alone = replace(KNOWN, similarity=replace(COSINES, strangers=(0.5,)))
    assert alone.rarest() == 1.0


def test_probabilities() -> None:
    logits = torch.tensor([-3.0, 0.0, 2.0, 5.0])
    assert torch.equal(probability(None, logits), logits.sigmoid())
    assert torch.equal(probability(replace(KNOWN, logit=None), logits), logits.sigmoid())
    assert torch.allclose(probability(KNOWN, logits), (logits / 2 - 1).sigmoid())
    assert float(probability(KNOWN, torch.tensor(2.0))) == 0.5
    assert float(COSINES.probability(torch.tensor(0.5))) == 0.5


def test_limits_of_a_search() -> None:
    assert similarity_limit(0.4, None, 10) == SimilarityLimit(0.4, None)
    assert similarity_limit(0.4, None, 10).nobody == "nobody here, at a similarity of at least 0.4"
    many = replace(COSINES, strangers=tuple(1 - n / 10_000 for n in range(1, 10_001)))
    known = replace(KNOWN, similarity=many)
    found = similarity_limit("auto", known, 100)
    assert found == SimilarityLimit(known.threshold(1e-3, 100), 1e-3)
    assert found.nobody == "nobody here, at one false alarm in a thousand searches"


def test_a_limit_takes_the_rarest_rate_that_is_known() -> None:
    found = similarity_limit("auto", KNOWN, 200)
    assert found == SimilarityLimit(KNOWN.threshold(0.01), pytest.approx(0.0199))
    assert found.nobody == "nobody here, at one false alarm in 50 searches"


@pytest.mark.parametrize(
    ("wanted", "calibration", "size", "named"),
    [
        (1.5, KNOWN, 100, "--min-similarity 1.5: "),
        (math.nan, KNOWN, 100, "--min-similarity nan: "),
        ("auto", None, 100, "--min-similarity auto: the model has no calibration; .* kronreid calibrate"),
        ("auto", KNOWN, 10_000, "--min-similarity auto: the calibration, of 100 .* too small .* of 10,000"),
        ("auto", replace(KNOWN, similarity=None), 100, "score: 'similarity' is not calibrated"),
    ],
)
def test_limits_that_there_are_not(wanted: Any, calibration: Calibration, size: int, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}"):
        similarity_limit(wanted, calibration, size)


@pytest.mark.parametrize("known", [KNOWN, replace(KNOWN, logit=None), replace(KNOWN, similarity=None)])
def test_round_trip(tmp_path: Path, known: Calibration, caplog: pytest.LogCaptureFixture) -> None:
    assert load_calibration(tmp_path, "model", None) is None
    save_calibration(tmp_path, known, "model", "places")
    assert load_calibration(tmp_path, "model", "places") == known
    assert {path.name for path in tmp_path.iterdir()} == {CALIBRATION}
    assert not caplog.records


@pytest.mark.parametrize("now", [("other", "places"), ("model", "other"), ("model", None)])
def test_a_stale_file_is_not_used(
    tmp_path: Path, now: tuple[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    save_calibration(tmp_path, KNOWN, "model", "places")
    assert load_calibration(tmp_path, *now) is None
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path / CALIBRATION} is of another model or other places")
    assert "kronreid calibrate" in said


def damaged(**changes: Any) -> str:
    """A file whose calibration has other values, by dotted names with ``__`` for the dot."""
    about: dict[str, Any] = {"model": "model", "places": None, "calibration": asdict(KNOWN)}
    for name, value in changes.items():
        *sections, last = name.split("__")
        place = about
        for section in sections:
            place = place[section]
        place[last] = value
    return json.dumps(about)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        "[" * 100_000,
        "\xff\xfe",
        damaged(calibration=3),
        damaged(calibration={}),
        damaged(calibration__people="many"),
        damaged(calibration__gallery=0),
        damaged(calibration__colour="red"),
        damaged(calibration__same_share=1),
        damaged(calibration__logit={}),
        damaged(calibration__similarity__slope=-1),
        damaged(calibration__similarity__offset=math.nan),
        damaged(calibration__similarity__strangers=[]),
        damaged(calibration__similarity__strangers=[0.1, 0.2]),
        damaged(calibration__similarity__strangers=[math.inf]),
    ],
    ids=range(19),
)
def test_a_damaged_file_is_not_used(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / CALIBRATION).write_bytes(text.encode("latin-1"))
    assert load_calibration(tmp_path, "model", None) is None
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path / CALIBRATION} is damaged (")
    assert said.endswith("and is not used; kronreid calibrate writes it anew")
    assert "\n" not in said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def write(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    arguments: dict[str, Any] = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}
    save(folder, "pooled", arguments, InputOptions(64, 32), build("pooled", arguments))


def places(folder: Path) -> PlaceMatching:
    """Places that nobody has fitted, with projections that are not zero."""
    embedder = load(folder, device="cpu")
    assert isinstance(embedder, Embedder)
    picture = np.zeros((64, 32, 3), np.uint8)
    ((name, maps), *_) = next(embedder.embeddings(picture)).maps.items()
    matching = PlaceMatching(PlacesOptions((name,), 4), [(maps.shape[1], maps.shape[2], maps.shape[3])])
    torch.nn.init.normal_(matching.projections[0])
    return matching.eval()


def calibrate(folder: Path) -> None:
    save_calibration(folder, KNOWN, load(folder).fingerprint, places_fingerprint(folder))


def test_a_model_is_loaded_with_its_calibration(folder: Path) -> None:
    assert load(folder).calibration is None
    calibrate(folder)
    assert load(folder).calibration == KNOWN


def test_a_new_model_has_none(folder: Path) -> None:
    calibrate(folder)
    write(folder, seed=1)
    assert not (folder / CALIBRATION).exists()


def test_new_places_have_none(folder: Path) -> None:
    calibrate(folder)
    save_places(folder, places(folder), load(folder).fingerprint)
    assert not (folder / CALIBRATION).exists()
    calibrate(folder)
    embedder = load(folder)
    assert isinstance(embedder, Embedder)
    assert embedder.calibration == KNOWN
    embedder.places = places(folder)
    assert embedder.calibration is None


def test_a_calibration_without_the_places_is_stale(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibrate(folder)
    kept = (folder / CALIBRATION).read_text()
    save_places(folder, places(folder), load(folder).fingerprint)
    (folder / CALIBRATION).write_text(kept)
    with caplog.at_level(logging.WARNING):
        assert load(folder).calibration is None
    assert len(caplog.messages) == 1


def test_probabilities_of_places_are_calibrated(folder: Path) -> None:
    save_places(folder, places(folder), load(folder).fingerprint)
    plain = load(folder, device="cpu")
    calibrate(folder)
    embedder = load(folder, device="cpu")
    assert isinstance(plain, Embedder)
    assert isinstance(embedder, Embedder)
    a, b, c = np.random.default_rng(0).integers(256, size=(3, 64, 32, 3), dtype=np.uint8)
    before, after = plain.needed_matcher().score([a], [b, c]), embedder.needed_matcher().score([a], [b, c])
    logits = np.log(before / (1 - before))
    np.testing.assert_allclose(after, 1 / (1 + np.exp(-(logits / 2 - 1))), rtol=1e-3)
    why, unlike = embedder.explain(a, b), plain.explain(a, b)
    assert why.logit == pytest.approx(unlike.logit)
    assert why.probability == pytest.approx(float(after[0, 0]), rel=1e-4)
    assert unlike.probability == pytest.approx(float(before[0, 0]), rel=1e-4)
    assert (folder / PLACES).is_file()


def test_probabilities_of_a_pair_model_are_calibrated(
    tmp_path: Path, save_tiny_models: Any, paths: list[Path]
) -> None:
    save_tiny_models(tmp_path)
    plain = load(tmp_path / "kpm", device="cpu")
    save_calibration(tmp_path / "kpm", KNOWN, plain.fingerprint, None)
    matcher: Any = load(tmp_path / "kpm", device="cpu")
    logits = matcher.logits(matcher.encode(paths[:1]), matcher.encode(paths[1:3]))
    np.testing.assert_allclose(
        matcher.score(paths[:1], paths[1:3]), (logits / 2 - 1).sigmoid().numpy(), atol=1e-6
    )
    assert matcher.explain(paths[0], paths[1]).probability == pytest.approx(
        float((logits[0, 0] / 2 - 1).sigmoid()), abs=1e-4
    )
