"""The rows as data: which there are, and what each changes of its full model."""

from collections.abc import Iterator
from typing import Any

import pytest

from kronreid.errors import InputError
from kronreid.papers import papers, row_names, row_options
from kronreid.papers.rows import OWN, merge

NO_DSR = {"loss.regulariser": 0.0}
R101 = {"model.backbone.name": "resnet101.tv_in1k"}
GHIS = {"batch.hard_identities": 10}
POOLED = {"model.name": "pooled", "model.order": None, "model.parts": None}
CAT = {"model.name": "concatenated", "model.parts": 0}
ATTEN = {"model.name": "concatenated", **NO_DSR}
SINGLE = {"model.attention": False, "model.hourglass": False}
BASELINE = {**SINGLE, "model.match": False}
SQUARE = {"input.height": 224, "input.width": 224}
RANDOM = {"model.backbone.weights": "none"}


def of_order(n: int, **more: Any) -> dict[str, Any]:
    return more if n == 3 else {**more, "model.order": n}


#: What each row changes of its full model, `horeid` or `kpm-rsa-hg`, with all that it takes from its bases.
#: None: the full model has the option and the row does not.
CHANGED: dict[str, dict[str, dict[str, Any]]] = {
    "horeid": {
        "gap": POOLED,
        "gap-r101": {**POOLED, **R101},
        **{f"cat-n{n}": of_order(n, **CAT) for n in (2, 3)},
        **{f"atten-cat-n{n}": of_order(n, **ATTEN) for n in (2, 3)},
        **{f"ghp-n{n}": of_order(n, **{"model.parts": 0}) for n in range(1, 6)},
        **{f"lhp-n{n}": of_order(n, **{"model.ghp": False}, **NO_DSR) for n in range(1, 6)},
        **{f"ghp-lhp-n{n}": of_order(n, **NO_DSR) for n in range(1, 6)},
        **{f"horeid-n{n}": of_order(n) for n in (1, 2, 4, 5)},
        **{f"horeid-p{parts}": {"model.parts": parts} for parts in (8, 16, 32, 64, 128, 512)},
        "horeid": {},
        "horeid-3x3": {"model.kernel": 3},
        "horeid-3x3-unshared": {"model.kernel": 3, "model.shared_sampler": False},
        "horeid-unshared": {"model.shared_sampler": False},
        "horeid-relu": {"model.relu": True},
        "horeid-no-hierarchy": {"model.hierarchical": False},
        "horeid-ghis": GHIS,
        "horeid-r101": R101,
        "horeid-r101-ghis": {**R101, **GHIS},
    },
    "kpm": {
        "baseline": BASELINE,
        "baseline-1to1": {**BASELINE, **SQUARE},
        "baseline-1to1-random": {**BASELINE, **SQUARE, **RANDOM},
        "baseline-random": {**BASELINE, **RANDOM},
        "baseline-absolute": {**BASELINE, "model.normalisation": "absolute"},
        "baseline-square-before": {**BASELINE, "model.normalisation": "square-before"},
        "baseline-no-square": {**BASELINE, "model.normalisation": "none"},
        "baseline-concatenated": {**BASELINE, "model.normalisation": "concatenated"},
        "baseline-hg": {**BASELINE, "model.hourglass": True},
        "baseline-hg-ml": {**BASELINE, "model.hourglass": True, "model.scale_losses": True},
        "kpm": SINGLE,
        "kpm-no-warp": {**SINGLE, "model.warp": False},
        "kpm-rsa": {"model.hourglass": False},
        "kpm-rsa-hg": {},
        "kpm-rsa-hg-tau-kpm-0.5": {"model.temperature": 0.5},
        "kpm-rsa-hg-tau-kpm-1.0": {"model.temperature": 1.0},
        "kpm-rsa-hg-tau-rsa-0.5": {"model.attention_temperature": 0.5},
        "kpm-rsa-hg-tau-rsa-0.1": {"model.attention_temperature": 0.1},
    },
}
FULL = {"horeid": "horeid", "kpm": "kpm-rsa-hg"}
#: kronreid's own recipe among the paper's rows.
VIT = "horeid/market1501/vit-small"
#: Rows with other losses have recipes of their own, and so have those on the small split.
PAPERS_ROWS = [name for name in row_names() if OWN not in name and "/loss-" not in name and name != VIT]


def flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def differences(full: str, row: str) -> dict[str, Any]:
    """The options of `row` that are not those of `full`; None for those that it lacks."""
    there, here = dict(flat(row_options(full))), dict(flat(row_options(row)))
    return {name: here.get(name) for name in here.keys() | there.keys() if here.get(name) != there.get(name)}


def test_there_are_rows() -> None:
    for data in ("market1501", "dukemtmc", "msmt17"):
        figures = {f"{way}-n{n}" for way in ("ghp", "lhp", "ghp-lhp") for n in range(1, 6)}
        parts = {f"horeid-p{parts}" for parts in (8, 16, 32, 64, 128, 512)}
        assert {f"horeid/{data}/{row}" for row in figures | parts | {"gap", "horeid"}} <= set(row_names())
    assert "kpm/market1501/kpm-rsa-hg" in row_names()
    assert len(row_names()) == len(set(row_names())) == 200


def test_every_number_has_a_row_of_that_data() -> None:
    for key, paper in papers().items():
        for table in paper.tables:
            for row in table.rows:
                for column in table.columns:
                    if row.results.get(column.key):
                        assert f"{key}/{column.data}/{row.name}" in row_names()


def test_every_row_of_the_papers_data_stands_in_a_table() -> None:
    in_tables = {(key, row.name) for key, paper in papers().items() for t in paper.tables for row in t.rows}
    papers_rows = [name for name in row_names() if OWN not in name and name != VIT]
    assert {(name.split("/")[0], name.split("/")[2]) for name in papers_rows} == in_tables


@pytest.mark.parametrize("name", PAPERS_ROWS)
def test_it_changes_of_the_full_model_what_it_says(name: str) -> None:
    paper, data, row = name.split("/")
    assert differences(f"{paper}/{data}/{FULL[paper]}", name) == CHANGED[paper][row]


@pytest.mark.parametrize("paper", FULL)
def test_the_full_model_changes_with_the_data_what_they_need(paper: str) -> None:
    allowed = {"data.usual_layout", "data.usual_protocol"}
    if paper == "kpm":
        allowed |= {"training.iterations", "training.epoch", "optimiser.decay_iterations", "batch.negatives"}
    for data in {column.data for table in papers()[paper].tables for column in table.columns}:
        changed = differences(f"{paper}/market1501/{FULL[paper]}", f"{paper}/{data}/{FULL[paper]}")
        assert set(changed) <= allowed, data


def test_options_of_a_row_are_the_callers_own() -> None:
    row_options("horeid/market1501/horeid")["model"]["order"] = 9
    assert row_options("horeid/market1501/horeid")["model"]["order"] == 3


def test_an_unknown_row_names_its_neighbours() -> None:
    with pytest.raises(
        InputError, match=r"horeid/market1501/ghp-n2$|did you mean .*horeid/market1501/ghp-n2"
    ):
        row_options("horeid/market1501/ghp_n2")
    with pytest.raises(InputError, match="kronreid papers --rows"):
        row_options("nonsense")


def test_merge_goes_section_by_section() -> None:
    below = {
        "model": {"name": "kpm", "backbone": {"name": "r50", "weights": "none"}},
        "loss": {"margin": 0.2},
    }
    above = {"model": {"backbone": {"weights": "imagenet"}}, "batch": {"pictures": 2}}
    assert merge(below, above) == {
        "model": {"name": "kpm", "backbone": {"name": "r50", "weights": "imagenet"}},
        "loss": {"margin": 0.2},
        "batch": {"pictures": 2},
    }
