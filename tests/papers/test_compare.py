"""Which run stands in which column."""

from dataclasses import replace

import pytest

from kronreid.papers import Comparison, Measured, compare, label, papers, way, without_row

HOREID, KPM = papers()["horeid"], papers()["kpm"]
GAP = Measured(
    folder="runs/gap",
    config="horeid/market1501/gap",
    layout="market1501",
    data="market1501",
    official=True,
    results={"market1501": {"rank1": 0.9, "mAP": 0.8}},
)


def table(name: str, runs: list[Measured], paper=HOREID) -> Comparison:
    return next(each for each in compare(paper, runs) if each.table.name == name)


def row_of(comparison: Comparison, name: str) -> dict:
    index = [row.name for row in comparison.table.rows].index(name)
    return comparison.cells[index]


def test_the_very_row_on_the_whole_data_set_stands_in_its_column() -> None:
    comparison = table("Table II", [GAP])
    cell = row_of(comparison, "gap")["market1501"]
    assert cell.paper == {"rank1": 91.95, "mAP": 80.13}
    assert cell.here == pytest.approx({"rank1": 90.0, "mAP": 80.0})
    assert cell.spread == {}
    assert cell.runs == ("runs/gap",)
    assert row_of(comparison, "gap")["dukemtmc"].here == {}
    assert comparison.elsewhere == ()


def test_several_runs_are_averaged_and_spread_is_the_sample_deviation() -> None:
    other = replace(GAP, folder="runs/gap-1", results={"market1501": {"rank1": 0.92, "mAP": 0.84}})
    cell = row_of(table("Table II", [GAP, other]), "gap")["market1501"]
    assert cell.here == pytest.approx({"rank1": 91.0, "mAP": 82.0})
    assert cell.spread == pytest.approx({"rank1": 2**0.5, "mAP": 8**0.5})


@pytest.mark.parametrize(
    "change",
    [
        {"official": False, "data": "market1501-split: 500 people"},
        {"config": "horeid/market1501-split/gap"},
        {"changed": {"training.iterations": (75000, 200)}},
        {"remaining": 100},
        {"layout": "market1501+500k"},
        {"layout": None},
        {"results": {"openreid": {"rank1": 0.9, "mAP": 0.8}}},
        {"results": {}},
    ],
    ids=str,
)
def test_anything_else_is_listed_apart(change: dict) -> None:
    comparison = table("Table II", [replace(GAP, **change)])
    assert all(cell.here == {} for line in comparison.cells for cell in line.values())
    (other,) = comparison.elsewhere
    assert other.row.name == "gap"
    assert other.here == pytest.approx({"rank1": 90.0, "mAP": 80.0} if change.get("results") != {} else {})


def test_two_protocols_of_one_run_go_to_two_columns() -> None:
    results = {
        **GAP.results,
        "market1501-multi-query": {"rank1": 0.95, "mAP": 0.9},
        "no-camera": {"mAP": 0.5},
    }
    comparison = table("Table III", [replace(GAP, results=results)])
    cells = row_of(comparison, "gap")
    assert cells["market1501"].here["mAP"] == pytest.approx(80)
    assert cells["market1501-mq"].here["mAP"] == pytest.approx(90)
    assert [other.protocol for other in comparison.elsewhere] == ["no-camera"]


def of_split(split: int, rank1: float, **others) -> Measured:
    results = {"cuhk03-classic": {"rank1": rank1, "rank5": 0.9, "mAP": 0.8}}
    run = replace(GAP, folder=f"runs/{split}", config="horeid/cuhk03/gap", layout="cuhk03-detected")
    return replace(run, results=results, split=split, **others)


def test_a_mean_over_splits_needs_all_of_them() -> None:
    """And each counts once, however many seeds it has. The column takes its own metrics."""
    runs = [of_split(split, 0.6 if split else 0.8) for split in range(20)]
    comparison = table("Table III", [*runs, replace(runs[0], folder="runs/seed", results=runs[1].results)])
    cell = row_of(comparison, "gap")["cuhk03"]
    assert cell.here == pytest.approx({"rank1": 60.5, "rank5": 90})
    assert cell.spread["rank1"] == pytest.approx(10 * 20**-0.5)
    assert (cell.splits, len(cell.runs), comparison.elsewhere) == (20, 21, ())
    comparison = table("Table III", runs[:19])
    cell = row_of(comparison, "gap")["cuhk03"]
    assert (cell.here, cell.spread, cell.splits) == ({}, {}, 19)
    assert len(comparison.elsewhere) == 19, "they are shown one by one instead"
    without = table("Table III", [*runs[:19], replace(runs[19], remaining=1)])
    assert row_of(without, "gap")["cuhk03"].splits == 19


def test_kpms_cuhk03_is_split_0_alone() -> None:
    results = {"openreid": {"rank1": 0.9, "mAP": 0.8}}
    run = replace(GAP, config="kpm/cuhk03/loss-oim", layout="cuhk03-labeled", results=results)
    for split, runs in ((0, ("runs/gap",)), (3, ())):
        comparison = table("Table 1", [replace(run, split=split)], KPM)
        assert row_of(comparison, "loss-oim")["cuhk03"].runs == runs
        assert len(comparison.elsewhere) == (split > 0)


BEST, ALL, HALF, NONE = (75,), ("all",), ("all", "bf16-matching"), (0,)


@pytest.mark.parametrize(
    ("ways", "shown", "mAP", "apart"),
    [
        ([{BEST: 0.5}], "best 75 re-scored", 50, 0),
        ([{BEST: 0.5, ALL: 0.7}], "all scored", 70, 1),
        ([{BEST: 0.5}, {ALL: 0.7}], "all scored", 70, 1),
        ([{BEST: 0.5}, {BEST: 0.6}], "best 75 re-scored", 55, 0),
        ([{HALF: 0.4, BEST: 0.5}], "all scored, bf16-matching", 40, 1),
        ([{HALF: 0.4}, {ALL: 0.7}], "all scored", 70, 1),
        ([{NONE: 0.9, BEST: 0.5}], "best 75 re-scored", 50, 1),
        ([{NONE: 0.9}], "", None, 1),
    ],
    ids=str,
)
def test_numbers_of_different_depths_are_never_averaged(
    ways: list[dict], shown: str, mAP: float | None, apart: int
) -> None:
    runs = [
        replace(
            GAP,
            folder=f"runs/{number}",
            config="kpm/market1501/kpm",
            results={label("openreid", way(*key)): {"mAP": value} for key, value in each.items()},
        )
        for number, each in enumerate(ways)
    ]
    comparison = table("Table 5", runs, KPM)
    cell = row_of(comparison, "kpm")["market1501"]
    assert cell.way == shown
    assert cell.here == pytest.approx({} if mAP is None else {"mAP": mAP})
    assert len(comparison.elsewhere) == apart


def test_both_halves_of_a_column_have_one_depth() -> None:
    """On CUHK03 the mAP and rank-1 come from two evaluations; they must have scored as many candidates."""
    results = {"openreid, best 75 re-scored": {"mAP": 0.8}, "cuhk03-classic, all scored": {"rank1": 0.7}}
    run = replace(GAP, config="kpm/cuhk03/kpm", layout="cuhk03-labeled", results=results)
    cell = row_of(table("Table 5", [run], KPM), "kpm")["cuhk03"]
    assert (cell.here, cell.way) == ({"rank1": pytest.approx(70)}, "all scored")
    whole = replace(run, results={**results, "openreid, all scored": {"mAP": 0.9}})
    assert row_of(table("Table 5", [whole], KPM), "kpm")["cuhk03"].here == pytest.approx(
        {"rank1": 70, "mAP": 90}
    )


def test_ranks_may_have_rules_of_their_own() -> None:
    results = {"openreid": {"rank1": 0.99, "mAP": 0.8}, "cuhk03-classic": {"rank1": 0.7, "mAP": 0.11}}
    run = replace(GAP, config="kpm/cuhk03/baseline", layout="cuhk03-labeled", results=results)
    comparison = table("Table 5", [run], KPM)
    assert row_of(comparison, "baseline")["cuhk03"].here == pytest.approx({"rank1": 70, "mAP": 80})
    assert comparison.elsewhere == ()
    half = replace(run, results={"openreid": results["openreid"]})
    assert row_of(table("Table 5", [half], KPM), "baseline")["cuhk03"].here == pytest.approx({"mAP": 80})


def split(row: str, mAP: float, **others) -> Measured:
    config, data = f"horeid/market1501-split/{row}", "market1501-split: 500 people"
    results = {"market1501": {"rank1": 0.9, "mAP": mAP}}
    return Measured(f"runs/{row}", config, "market1501", data, official=False, results=results, **others)


def test_gains_compare_like_with_like() -> None:
    comparison = table("Table II", [split("gap", 0.80), split("horeid", 0.85), split("ghp-n3", 0.83)])
    gains = {other.row.name: (other.gain, other.paper_gain) for other in comparison.elsewhere}
    assert gains["gap"] == (None, None)
    assert gains["horeid"] == (pytest.approx(5.0), pytest.approx(88.78 - 80.13))
    assert gains["ghp-n3"] == (pytest.approx(3.0), pytest.approx(86.40 - 80.13))


@pytest.mark.parametrize("others", [{"remaining": 1}, {"changed": {"loss.margin": (0.3, 0.2)}}], ids=str)
def test_a_run_that_is_not_its_row_gains_nothing_and_is_no_baseline(others: dict) -> None:
    whole, part = split("gap", 0.80), split("gap", 0.80, **others)
    better, worse = split("horeid", 0.85), split("horeid", 0.85, **others)
    for runs in ([part, better], [whole, worse]):
        assert all(other.gain is None for other in table("Table II", runs).elsewhere)


def test_another_papers_runs_are_not_mixed_in() -> None:
    run = replace(GAP, config="kpm/market1501/baseline", results={"openreid": {"rank1": 0.8, "mAP": 0.6}})
    assert all(not each.elsewhere for each in compare(HOREID, [run]))
    assert row_of(table("Table 5", [run], KPM), "baseline")["market1501"].here["mAP"] == pytest.approx(60)


def test_runs_of_no_row_are_found() -> None:
    strange = replace(GAP, config="horeid/market1501-split/gap-triplets")
    nameless = replace(GAP, config=None)
    assert without_row([HOREID, KPM], [GAP, strange, nameless]) == [strange, nameless]
