"""HOReID's Figures 7 and 8 from runs: which run is which point."""

import pytest

from kronreid.explain.figures_papers import Panel, panels_of, points_figure
from kronreid.papers import Measured, compare, papers


def run(row: str, mAP: float, data: str = "market1501", **more) -> Measured:
    config, official = f"horeid/{data}/{row}", data == "market1501"
    results = {"market1501": {"rank1": 0.9, "mAP": mAP}}
    words = data if official else f"{data}: 500 people"
    folder = f"runs/{data}/{row}/{mAP}"
    return Measured(folder, config, "market1501", words, official, results=results, **more)


def panels(name: str, runs: list[Measured]) -> dict[str, Panel]:
    comparison = next(each for each in compare(papers()["horeid"], runs) if each.table.name == name)
    return {panel.title: panel for panel in panels_of(comparison)}


def test_figure_7_has_a_curve_for_each_pooling() -> None:
    split = "market1501-split"
    runs = [
        run("ghp-n2", 0.85),
        run("ghp-n2", 0.87),
        run("horeid", 0.89),
        run("gap", 0.75, split),
        run("lhp-n1", 0.7, split),
        run("lhp-n3", 0.8, split),
        run("lhp-n4", 0.9, split, changed={"loss.margin": (0.2, 0.3)}),
    ]
    found = panels("Fig. 7", runs)
    assert list(found) == ["Market-1501", "DukeMTMC", "MSMT17", f"{split}\nmarket1501"]
    market = found["Market-1501"]
    assert list(market.series) == ["GHP", "LHP", "GHP + LHP", "GHP + LHP + DSR"]
    assert market.series["GHP"].here == pytest.approx({2: 86})
    assert market.series["GHP"].paper == {1: 80.13, 2: 85.62, 3: 86.40}
    assert market.series["GHP"].derived == {1}
    assert market.series["GHP + LHP + DSR"].here == pytest.approx({3: 89})
    assert market.level == 80.13
    other = found[f"{split}\nmarket1501"]
    assert other.series["LHP"].here == pytest.approx({1: 70, 3: 80}), "a changed run is no point"
    assert other.level == pytest.approx(75)
    figure = points_figure(list(found.values()))
    assert [axes.get_title("left") for axes in figure.axes] == list(found)
    drawn = {tuple(line.get_ydata()) for line in figure.axes[3].lines}
    assert any(values == pytest.approx((70, 80)) for values in drawn)


def test_figure_8_is_one_curve_over_the_parts() -> None:
    found = panels("Fig. 8", [run("horeid-p16", 0.8), run("horeid", 0.9)])["Market-1501"]
    assert found.axis == "P"
    assert found.series[""].here == pytest.approx({16: 80, 256: 90})
    assert (found.series[""].paper, found.series[""].derived) == ({8: 86.64, 256: 88.78}, {8})
