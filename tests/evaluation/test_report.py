import dataclasses

from kronreid.evaluation import evaluate_dataset, table

from .fakes import FakeEmbedder, FakePlaces, fake_dataset


def test_table():
    result = evaluate_dataset(FakeEmbedder(), fake_dataset(queries=8, gallery=40, people=5))
    text = table({"one": result, "another": dataclasses.replace(result, queries_without_match=2)})
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["rank-1", "rank-5", "rank-10"]
    assert lines[1].split()[:2] == ["one", f"{100 * result.rank1:.2f}"]
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[3] == "another: 2 of 8 queries have no match in the gallery; the rates are over the others"
    assert table(result).splitlines()[1].startswith("market1501")


def test_the_first_stage_stands_above_what_re_scoring_reached():
    result = evaluate_dataset(FakePlaces(), fake_dataset(queries=8, gallery=40, people=5))
    assert result.first_stage is not None
    lines = table(result).splitlines()
    assert lines[1].startswith("market1501, first stage  ")
    assert lines[2].startswith("market1501  ")
    rates = [
        line.removeprefix("market1501, first stage").removeprefix("market1501").split()[0]
        for line in lines[1:3]
    ]
    assert rates == [f"{100 * one.rank1:.2f}" for one in (result.first_stage, result)]
