"""Text, Markdown and JSON of the comparison."""

import json

import pytest

from kronreid.papers import Measured, papers, to_text, to_values

PAPERS = list(papers().values())
GAP = "horeid/market1501/gap"
MARKET = "market1501"
TEMPERATURE = {"model.temperature": (0.05, 0.5)}


def metrics(rank1: float, mAP: float) -> dict[str, dict[str, float]]:
    return {MARKET: {"rank1": rank1, "mAP": mAP}}


RUNS = [
    Measured("runs/one", GAP, MARKET, MARKET, True, results=metrics(0.9, 0.8)),
    Measured("runs/two", GAP, MARKET, MARKET, True, results=metrics(0.92, 0.8)),
    Measured(
        "runs/three",
        "horeid/market1501-split/horeid",
        MARKET,
        "split: 8 people",
        False,
        results=metrics(0.5, 0.25),
    ),
    Measured("runs/four", "kpm/market1501/kpm", MARKET, MARKET, True, TEMPERATURE, remaining=1200),
    Measured("runs/five", None, None, "a|b (not counted)", False),
]


@pytest.mark.parametrize("markdown", [False, True])
def test_everything_is_said(markdown: bool) -> None:
    text = to_text(PAPERS, RUNS, markdown)
    for paper in PAPERS:
        assert paper.title in text
        for table in paper.tables:
            assert f"{table.name}: {table.title}" in text
            for row in table.rows:
                assert row.title in text
            for note in table.notes:
                assert note in text
    assert "91.00 / 80.00 (± 1.41 / 0.00, 2 runs)" in text
    assert "split: 8 people" in text
    assert "modified: model.temperature 0.05 → 0.5; unfinished: 1,200 iterations left" in text
    assert "91.1 / 89.2" in text
    assert "93.4 / 89.2" in text


def test_markdown_tables_have_equal_rows() -> None:
    for block in to_text(PAPERS, RUNS, markdown=True).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1


def test_text_columns_are_aligned() -> None:
    text = to_text(PAPERS, RUNS)
    block = next(block for block in text.split("\n\n") if block.startswith("row") and "ghp-n2" in block)
    lines = block.splitlines()
    assert len({line.index("GAP") for line in lines if "ResNet-50 + GAP" in line}) == 1
    assert len({line.rstrip()[-5:] for line in lines[2:]}) > 1
    assert len({len(line) for line in lines[1:]}) == 1  # the last column is one of numbers, set to the right


def test_a_split_run_is_never_in_a_papers_column() -> None:
    text = to_text([PAPERS[0]], [RUNS[2]])
    assert "measured here (Market-1501)" not in text
    lines = [line for line in text.splitlines() if "runs/three" in line]
    assert lines
    assert all("split: 8 people" in line for line in lines)


def test_one_paper_leaves_out_the_others_runs() -> None:
    assert "runs/four" not in to_text([PAPERS[0]], RUNS)
    assert "runs/five" in to_text([PAPERS[0]], RUNS)


def test_values_are_json_and_say_the_same() -> None:
    values = json.loads(json.dumps(to_values(PAPERS, RUNS), allow_nan=False))
    tables = {table["name"]: table for table in values["papers"]["horeid"]["tables"]}
    gap = next(row for row in tables["Table II"]["rows"] if row["row"] == "gap")
    assert gap["cost"]["parameters"] == 24.56
    cell = gap["columns"]["market1501"]
    assert cell["config"] == "horeid/market1501/gap"
    assert cell["paper"] == {"rank1": 91.95, "mAP": 80.13}
    assert cell["here"] == pytest.approx({"rank1": 91, "mAP": 80})
    assert cell["runs"] == ["runs/one", "runs/two"]
    (other,) = tables["Table II"]["elsewhere"]
    assert other["run"]["folder"] == "runs/three"
    kpm = {table["name"]: table for table in values["papers"]["kpm"]["tables"]}
    assert kpm["Table 5"]["elsewhere"][0]["run"]["modified"]
    assert [run["folder"] for run in values["without_row"]] == ["runs/five"]


def test_depths_and_splits_are_named() -> None:
    openreid = {"openreid, best 75 re-scored": {"rank1": 0.8, "mAP": 0.7}}
    kpm = Measured("runs/kpm", "kpm/market1501/kpm", MARKET, MARKET, True, results=openreid)
    assert "80.0 / 70.0 [best 75 re-scored]" in to_text(PAPERS, [kpm])
    classic = {"cuhk03-classic": {"rank1": 0.7, "rank5": 0.9}}
    runs = [
        Measured(f"runs/{n}", "horeid/cuhk03/gap", "cuhk03-detected", "cuhk03", True, {}, 0, classic, n)
        for n in range(20)
    ]
    assert "70.00 / 90.00 (± 0.00 / 0.00, 20 of 20 splits)" in to_text(PAPERS, runs)
    text = to_text(PAPERS, runs[:19])
    assert "19 of 20 splits" in text
    assert "70.00 / 90.00" not in text


def test_only_numbers_that_the_paper_does_not_print_have_a_tilde() -> None:
    text = to_text(PAPERS, [])
    assert "85.0 / ~66.9" in text
    assert "~80.13" in text
    assert text.count("~computed") == 0
    assert text.count("~") == sum(
        len(metrics)
        for paper in PAPERS
        for table in paper.tables
        for row in table.rows
        for metrics in row.derived.values()
    ) + sum(bool(row.derived) for p in PAPERS for t in p.tables for row in t.rows)
