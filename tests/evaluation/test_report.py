import dataclasses

from kronreid.evaluation import evaluate_dataset, table

from .fakes import FakeEmbedder, fake_dataset


def test_table():
    result = evaluate_dataset(FakeEmbedder(), fake_dataset(queries=8, gallery=40, people=5))
    text = table({"one": result, "another": dataclasses.replace(result, queries_without_match=2)})
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["rank-1", "rank-5", "rank-10"]
    assert lines[1].split()[:2] == ["one", f"{100 * result.rank1:.2f}"]
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[3] == "another: 2 of 8 queries have no match in the gallery; the rates are over the others"
    assert table(result).splitlines()[1].startswith("market1501")
