"""The speed of Table II's rows: every row, form and batch, and the paper's figures beside."""

import json
import sys
from pathlib import Path

import pytest

import table2


def test_every_row_form_and_batch_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, table = tmp_path / "a.json", tmp_path / "a.md"
    small = [
        "--backbone",
        "test_resnet",
        "--height",
        "64",
        "--width",
        "32",
        "--turns",
        "1",
        "--batch",
        "1",
        "2",
    ]
    arguments = [*small, "--threads", "1", "--json", str(out), "--table", str(table)]
    monkeypatch.setattr(sys, "argv", ["table2.py", *arguments])
    table2.main()
    figures = json.loads(out.read_text())
    rows = [name.removesuffix("_unfolded_1_ms") for name in figures if name.endswith("_unfolded_1_ms")]
    assert len(rows) == 9
    for row in rows:
        for kind in ("unfolded_1", "unfolded_2", "folded_1", "folded_2"):
            assert figures[f"{row}_{kind}_ms"] > 0
            assert figures[f"{row}_{kind}_per_second"] == pytest.approx(1e3 / figures[f"{row}_{kind}_ms"])
    lines = table.read_text().splitlines()
    assert "one GTX 1080 Ti, batch and form not given" in lines[0]
    shown = next(line for line in lines if line.startswith("| `horeid` |"))
    assert shown.startswith("| `horeid` | 95.1 / 10.52 / 1.32 |")
    assert len({line.count("|") for line in lines[2:]}) == 1
