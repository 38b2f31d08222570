"""Means over the divisions of a data set, and the models that were trained on each."""

from pathlib import Path

import pytest

from kronreid.errors import InputError
from kronreid.evaluation.report import aligned
from kronreid.evaluation.splits import split_folder, split_models, summary, summary_lines


def test_the_mean_and_the_sample_deviation() -> None:
    found = summary([{"rank1": 0.5, "mAP": 0.2, "gallery": 8}, {"rank1": 0.7, "mAP": 0.2, "gallery": 9}])
    assert found["splits"] == 2
    assert (found["rank1"], found["mAP"]) == pytest.approx((0.6, 0.2))
    assert found["deviation"] == pytest.approx({"rank1": 0.02**0.5, "mAP": 0})
    assert found["each"][1]["gallery"] == 9
    assert "gallery" not in found
    lines = aligned(summary_lines(found))
    assert lines[0].split() == ["split", "rank-1", "mAP"]
    assert lines[-1].split() == ["mean", "of", "2", "60.00", "±", "14.14", "20.00", "±", "0.00"]


def test_a_figure_that_some_divisions_lack_has_no_mean() -> None:
    assert "rank5" not in summary([{"rank1": 0.5, "rank5": 0.6}, {"rank1": 0.7}])


def test_each_division_has_its_own_model_or_all_have_one(tmp_path: Path) -> None:
    assert split_models(str(tmp_path), 3) == [str(tmp_path)] * 3
    assert split_models("net.onnx", 2) == ["net.onnx"] * 2
    for split in (0, 2):
        split_folder(tmp_path, split).mkdir()
    with pytest.raises(InputError, match="has no split-1; train all 3 splits first"):
        split_models(str(tmp_path), 3)
    split_folder(tmp_path, 1).mkdir()
    assert split_models(str(tmp_path), 3) == [str(tmp_path / f"split-{split}") for split in range(3)]
