"""The gallery's benchmark at sizes that take a moment."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gallery.py"


@pytest.fixture(scope="module")
def benchmark() -> dict:
    return runpy.run_path(str(SCRIPT), run_name="gallery_benchmark")


def test_additions_one_by_one_are_counted(benchmark, tmp_path, monkeypatch, capsys):
    json_file = tmp_path / "figures.json"
    options = ["--single", "20", "--dimension", "16", "--json", str(json_file)]
    monkeypatch.setattr(sys, "argv", ["gallery.py", *options])
    benchmark["main"]()
    figures = json.loads(json_file.read_text())
    assert figures["single_per_second"] > 0
    assert figures["single_slowdown"] > 0
    assert "20 pictures:" in capsys.readouterr().out


def test_pictures_of_one_person_resemble_each_other_as_real_ones_do(benchmark):
    people = benchmark["People"](4000, 64)
    vectors = np.concatenate([some for _, some in people.batches()])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    first, second = vectors[::10], vectors[1::10]
    assert 0.6 < (first * second).sum(1).mean() < 0.75
    others = (first * np.roll(second, 1, axis=0)).sum(1)
    assert abs(others.mean()) < 0.05
    assert 0.15 < others.std() < 0.25
