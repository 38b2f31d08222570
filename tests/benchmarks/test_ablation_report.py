"""The report's arithmetic on runs that are made up."""

from pathlib import Path
from typing import Any

import pytest

from ablation_report import (
    PEOPLE,
    PRECISION,
    Comparison,
    Line,
    Trained,
    budget_differences,
    compare,
    comparison_table,
    draw,
    learning_curve,
    markdown,
    pictures_before,
    read_rows,
    short_names,
    table_lines,
    usual_budget,
)
from kronreid.errors import InputError
from kronreid.training.config import Config, make_config, to_yaml


def config(name: str = "pooled", weights: str = "none", **sections: Any) -> Config:
    return make_config({"model": {"name": name, "backbone": {"weights": weights}}, **sections})


def run(seed: int, curve: dict[int, float], finished: bool = True, made: Config | None = None) -> Trained:
    history = [{"pictures": float(x), "seconds": x / 10, "mAP": y} for x, y in curve.items()]
    result = {"rank1": 0.9, "mAP": list(curve.values())[-1], "mINP": 0.5} if finished else None
    return Trained(seed, made or config(), history, 0, result, None)


def result(rank1: float, mAP: float, mINP: float) -> dict[str, float]:
    return {"rank1": rank1, "mAP": mAP, "mINP": mINP}


def test_the_table_says_mean_spread_and_other_budgets() -> None:
    lines = [
        Line("gap", {0: result(0.5, 0.25, 0.1), 2: result(0.7, 0.35, 0.1)}, "76,800", "1,248"),
        Line("ghp", {1: result(0.5, 0.255, 0.1)}, "38,400", "600", "training.iterations 600 instead of 1200"),
        Line("kpm", {}, "100", "1"),
    ]
    assert markdown(lines).splitlines() == [
        "| row | seeds | rank-1 | mAP | mINP | pictures seen | seconds |",
        "| --- | --: | --: | --: | --: | --: | --: |",
        "| gap | 0, 2 | 60.0 ± 14.1 | 30.0 ± 7.1 | 10.0 ± 0.0 | 76,800 | 1,248 |",
        "| ghp [1] | 1 | 50.0 | 25.5 | 10.0 | 38,400 | 600 |",
        "| kpm |  | – | – | – | 100 | 1 |",
        "",
        "Values are in per cent: mean ± standard deviation over seeds, with the newest weights.",
        "",
        "These rows have another budget than most rows:",
        "",
        "- [1] training.iterations 600 instead of 1200",
    ]


def by_query(precision: list[float | None], people: list[int]) -> dict[str, Any]:
    return result(0.5, 0.5, 0.5) | {PRECISION: precision, PEOPLE: people}


def test_lines_are_compared_query_by_query_over_the_seeds_that_both_have() -> None:
    people = [7, 7, 3, 9]
    lines = [
        Line("gap", {0: by_query([0.2, 0.4, None, 0.6], people), 1: by_query([0.1, 0.3, None, 0.5], people)}),
        Line("kpm, pooled alone", {1: by_query([0.0, 0.0, None, 0.0], people)}),
        Line(
            "kpm, its best 75 re-scored",
            {1: by_query([0.4, 0.6, None, 0.2], people), 2: by_query([1.0, 1.0, None, 1.0], people)},
        ),
    ]
    found = compare(lines, "kpm", "gap")
    assert found.name == "kpm over gap"
    assert found.by_seed == {1: pytest.approx((0.3 + 0.3 - 0.3) / 3)}
    assert found.difference == found.by_seed[1]
    # of two people drawn with replacement, a quarter of the draws shows each of them twice
    assert found.interval == (pytest.approx(-0.3), pytest.approx(0.3))
    assert compare(lines, "kpm, pooled alone", "gap").difference == pytest.approx(-0.3)


def test_one_person_is_worth_no_more_for_being_asked_for_often() -> None:
    """Queries of one person are alike; as many of as many people narrow the interval, more of one do not."""
    gains = [0.1, -0.1] * 20

    def width(people: int, each: int) -> float:
        precision: list[float | None] = [gain for gain in gains[:people] for _ in range(each)]
        numbers = [person for person in range(people) for _ in range(each)]
        lines = [
            Line("a", {0: by_query(precision, numbers)}),
            Line("b", {0: by_query([0.0] * len(precision), numbers)}),
        ]
        low, high = compare(lines, "a", "b").interval
        return high - low

    assert width(40, 1) == pytest.approx(width(40, 5))
    assert width(40, 1) < 0.8 * width(10, 4)


def test_a_comparison_that_cannot_be_made_is_said() -> None:
    lines = [
        Line("gap", {0: by_query([0.2], [1])}),
        Line("ghp", {1: by_query([0.2], [1])}),
        Line("cat", {0: result(1, 1, 1)}),
        Line("other pictures", {0: by_query([0.2, 0.3], [1, 2])}),
        Line("not finished", {}),
    ]
    for name, other, message in (
        ("no", "gap", "--compare no: is not a line of the table: gap; ghp; cat; other"),
        ("gap", "ghp", "share no seed"),
        ("gap", "cat", "share no seed"),
        ("gap", "other pictures", "share no seed"),
        ("gap", "not finished", "share no seed"),
    ):
        with pytest.raises(InputError, match=message):
            compare(lines, name, other)


def test_comparisons_are_written_in_points() -> None:
    text = comparison_table([Comparison("a over b", {0: 0.014, 2: -0.002}, (-0.011, 0.02))])
    assert text.splitlines()[2] == "| a over b | +0.6 | +1.4, −0.2 | −1.1 to +2.0 |"


def test_a_budget_is_what_training_takes_not_what_a_row_changes() -> None:
    plain = config()
    assert not budget_differences(plain, config("horeid", loss={"regulariser": 0.0}))
    assert not budget_differences(plain, config(training={"seed": 3}, data={"workers": 0}))
    assert budget_differences(plain, config(batch={"identities": 32})) == {"batch.identities": (64, 32)}
    for section, option in (
        ("training", {"iterations": 600}),
        ("augment", {"erase": 0.0}),
        ("optimiser", {"schedule": "cosine"}),
        ("input", {"height": 384}),
    ):
        (name,) = budget_differences(plain, config(**{section: option}))
        assert name == f"{section}.{next(iter(option))}"
    assert "model.backbone.weights" in budget_differences(plain, config(weights="runs/gap"))


def test_negatives_are_compared_among_pair_models_alone() -> None:
    more = {"batch": {"negatives": 4}}
    assert not budget_differences(config(), config("kpm", **more))
    assert budget_differences(config("kpm"), config("kpm", **more)) == {"batch.negatives": (3, 4)}


def test_seeds_that_start_from_their_own_runs_have_one_budget() -> None:
    one, other = (config("kpm", f"runs/x/gap/seed-{seed}") for seed in (0, 12))
    assert not budget_differences(one, other)
    assert budget_differences(one, config("kpm", "runs/x/ghp/seed-0"))


def test_the_usual_budget_is_the_one_of_most_rows() -> None:
    long, short = config(), config(training={"iterations": 600})
    assert usual_budget([short, long, long]).training.iterations == long.training.iterations
    rows = {"a": [run(0, {1: 0.5}, made=short)], "b": [run(0, {1: 0.5})], "c": [run(0, {1: 0.5})]}
    assert [line.differs for line in table_lines(rows)] == [
        "training.iterations 600 instead of 75000",
        "",
        "",
    ]


def test_a_curve_is_over_the_finished_seeds() -> None:
    runs = [run(0, {10: 0.2, 20: 0.4}), run(1, {10: 0.4, 20: 0.5}), run(2, {10: 0.9}, finished=False)]
    curve = learning_curve(runs)
    assert curve is not None
    assert curve.seeds == 2
    assert curve.pictures.tolist() == [10, 20]
    assert curve.mean == pytest.approx([30, 45])
    assert curve.least == pytest.approx([20, 40])
    assert curve.greatest == pytest.approx([40, 50])
    unfinished = learning_curve(
        [run(0, {10: 0.2, 20: 0.4}, finished=False), run(1, {10: 0.4}, finished=False)]
    )
    assert unfinished is not None
    assert unfinished.pictures.tolist() == [10]
    assert learning_curve([run(0, {10: 0.2}), run(1, {20: 0.4})]) is None


def test_runs_are_found_by_row_whatever_else_lies_there(tmp_path: Path) -> None:
    lines = "iteration,pictures,seconds,rank1,mAP\n1,64,2.5,0.5,0.25\n"
    for folder in ("horeid/split/gap/seed-0", "horeid/split/gap/seed-10", "horeid/split/gap/seed-9", "mine"):
        (tmp_path / folder).mkdir(parents=True)
        made = config(training={"seed": int(folder.rpartition("-")[2]) if "-" in folder else 0})
        (tmp_path / folder / "config.yaml").write_text(to_yaml(made))
        (tmp_path / folder / "history.csv").write_text(lines)
    (tmp_path / "mine" / "evaluation.json").write_text('{"rank1": 0.5, "mAP": 0.25, "mINP": 0.125}')
    rows = read_rows(tmp_path)
    assert {row: [one.seed for one in runs] for row, runs in rows.items()} == {
        "horeid/split/gap": [0, 9, 10],
        "mine": [0],
    }
    assert rows["mine"][0].evaluation == {"rank1": 0.5, "mAP": 0.25, "mINP": 0.125}
    assert list(read_rows(tmp_path, ["mine", "none"])) == ["mine"]
    with pytest.raises(InputError, match="no run of these rows"):
        read_rows(tmp_path, ["none"])
    start = config(weights=str(tmp_path / "mine"))
    assert pictures_before(start) == 64
    (tmp_path / "mine" / "config.yaml").write_text(
        to_yaml(config(weights=str(tmp_path / "horeid/split/gap/seed-0")))
    )
    assert pictures_before(start) == 128


def test_names_are_short_where_that_is_clear() -> None:
    names = ["horeid/split/gap", "horeid/split/baseline", "kpm/split/baseline"]
    assert list(short_names(names).values()) == ["gap", "horeid/baseline", "kpm/baseline"]


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no curves"):
        draw({"gap": [Trained(0, config(), [], 0, None, None)]}, tmp_path / "x.png")
