"""The report of `ablation.py` about a folder of runs: table, metrics and learning curves."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kronreid.data.files import walk
from kronreid.errors import InputError
from kronreid.explain.charts import panels, plain
from kronreid.explain.style import save_png, style
from kronreid.models.folders import HISTORY
from kronreid.papers.render import number
from kronreid.training.config import Config, read_config
from kronreid.training.history import read_history
from kronreid.training.records import changes

#: Files of a run's folder, and the folder for the results of two runs together.
EVALUATION, POOLED, RERANKED = "evaluation.json", "evaluation-pooled.json", "reranked"
#: Further keys of a result, besides those of `kronreid evaluate --json`: for every query its AP, None without
#: a match, and its person.
PRECISION, PEOPLE = "query_average_precision", "query_people"
METRICS = {"rank1": "rank-1", "mAP": "mAP", "mINP": "mINP"}
#: The options that form a budget. The others are what a row may change.
BUDGET = ("input.", "augment.", "batch.", "optimiser.", "training.", "data.", "model.backbone.")
PAIRS_ALONE = {"batch.negatives", "batch.hard_negatives"}


@dataclass(frozen=True)
class Trained:
    """One run, read from its folder. `evaluation` and `pooled` are None if they do not exist yet."""

    seed: int
    config: Config
    history: list[dict[str, float]]
    before: int
    evaluation: dict[str, Any] | None
    pooled: dict[str, Any] | None


@dataclass(frozen=True)
class Line:
    """A line of the table: metrics by seed, and the cost of training (empty for two models together)."""

    name: str
    results: dict[int, dict[str, Any]]
    pictures: str = ""
    seconds: str = ""
    differs: str = ""


def read_rows(out: Path, wanted: Sequence[str] = ()) -> dict[str, list[Trained]]:
    """The runs below a folder by row: those of `wanted`, in its order, or all.

    Raises:
        InputError: There is no run.
    """
    rows: dict[str, list[Trained]] = {name: [] for name in wanted}
    for folder in sorted(place for place, names in walk(out) if "config.yaml" in names):
        place = folder.parent if re.fullmatch(r"seed-\d+", folder.name) else folder
        name = place.relative_to(out).as_posix()
        if not wanted or name in rows:
            rows.setdefault(name, []).append(read_run(folder))
    rows = {name: sorted(runs, key=lambda run: run.seed) for name, runs in rows.items() if runs}
    if not rows:
        raise InputError(f"--out {out}", f"has no run{' of these rows' if wanted else ''} yet")
    return rows


def read_run(folder: Path) -> Trained:
    """Read the folder of one run."""
    config = read_config(folder / "config.yaml")
    history = read_history(folder / HISTORY) if (folder / HISTORY).is_file() else []
    found = [
        json.loads((folder / name).read_text()) if (folder / name).is_file() else None
        for name in (EVALUATION, POOLED)
    ]
    return Trained(config.training.seed, config, history, pictures_before(config), *found)


def pictures_before(config: Config) -> int:
    """The pictures seen by the runs from whose backbone a run starts."""
    start = Path(os.path.expandvars(config.model.get("backbone", {}).get("weights", "imagenet")))
    if not (start / HISTORY).is_file():
        return 0
    history = read_history(start / HISTORY)
    earlier = read_config(start / "config.yaml") if (start / "config.yaml").is_file() else None
    return int(history[-1]["pictures"]) + (pictures_before(earlier) if earlier else 0)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """A short name for each row: its last part, prefixed with the paper if several rows end alike."""
    stems = [Path(name).name for name in names]
    return {
        name: stem if stems.count(stem) == 1 else f"{Path(name).parts[0]}/{stem}"
        for name, stem in zip(names, stems)
    }


def budget_differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """The options in which two budgets differ, by dotted name: the value in `one` and in `other`."""
    found = changes(*(replace(config, model=_start_by_name(config)) for config in (one, other)))
    pairs = one.name == other.name == "kpm"
    return {
        name: values
        for name, values in found.items()
        if name.startswith(BUDGET) and (pairs or name not in PAIRS_ALONE)
    }


def _start_by_name(config: Config) -> dict[str, Any]:
    """A model's options, with the row instead of the run it starts from, since each seed has its own run."""
    backbone = dict(config.model.get("backbone", {}))
    start = Path(str(backbone.get("weights", "")))
    if re.fullmatch(r"seed-\d+", start.name):
        backbone["weights"] = start.parent.as_posix()
    return config.model | {"backbone": backbone}


def usual_budget(configs: Sequence[Config]) -> Config:
    """The first config with the most common budget."""
    return max(configs, key=lambda one: sum(not budget_differences(one, other) for other in configs))


def table_lines(rows: dict[str, list[Trained]]) -> list[Line]:
    """The lines of the table: one for each row, and two for a pair model."""
    names = short_names(list(rows))
    usual = usual_budget([runs[0].config for runs in rows.values()])
    lines = []
    for row, runs in rows.items():
        differs = "; ".join(
            f"{key} {there} instead of {here}"
            for key, (here, there) in budget_differences(usual, runs[0].config).items()
        )
        seen = sorted({(int(run.history[-1]["pictures"]), run.before) for run in runs if run.history})
        pictures = " or ".join(f"{own:,}" + (f" after {early:,}" if early else "") for own, early in seen)
        times = [run.history[-1]["seconds"] for run in runs if run.history]
        seconds = f"{statistics.mean(times):,.0f}" if times else ""
        results = {run.seed: run.evaluation for run in runs if run.evaluation}
        pooled = {run.seed: run.pooled for run in runs if run.pooled}
        if runs[0].config.name == "kpm":
            lines.append(Line(f"{names[row]}, pooled alone", pooled, pictures, seconds, differs))
            lines.append(Line(f"{names[row]}, its best 75 re-scored", results, pictures, seconds, differs))
        else:
            lines.append(Line(names[row], results, pictures, seconds, differs))
    return lines


def reranked_lines(out: Path, rows: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[Line]:
    """Two lines for each re-ranked pair of rows: those in `pairs`, or all if `pairs` is empty."""
    names = short_names(rows)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for file in sorted((out / RERANKED).glob("*/seed-*.json")):
        kept = json.loads(file.read_text())
        pair = (kept["embedder"], kept["matcher"])
        if pair in pairs or not pairs:
            first, second = (names.get(name, name) for name in pair)
            for say, result in kept["results"].items():
                line = found.setdefault(f"{first}, its best 75 re-ranked by {second}, {say}", {})
                line[int(file.stem.removeprefix("seed-"))] = result
    return [Line(name, results) for name, results in found.items()]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the sample standard deviation (n − 1), which is None for a single value."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def markdown(lines: Sequence[Line]) -> str:
    """The table in Markdown, in per cent, with the meanings of the marks below it."""
    head = ["row", "seeds", *METRICS.values(), "pictures seen", "seconds"]
    text = ["| " + " | ".join(head) + " |", "| --- | --: |" + " --: |" * (len(head) - 2)]
    marks: dict[str, str] = {}
    for line in lines:
        mark = f" [{marks.setdefault(line.differs, str(len(marks) + 1))}]" if line.differs else ""
        cells = [line.name + mark, ", ".join(map(str, line.results))]
        for metric in METRICS:
            cell = "–"
            if line.results:
                mean, spread = mean_and_spread([result[metric] for result in line.results.values()])
                cell = f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")
            cells.append(cell)
        text.append("| " + " | ".join([*cells, line.pictures, line.seconds]) + " |")
    text += ["", "Values are in per cent: mean ± standard deviation over seeds, with the newest weights."]
    if marks:
        text += ["", "These rows have another budget than most rows:", ""]
        text += [f"- [{mark}] {differs}" for differs, mark in marks.items()]
    return "\n".join(text) + "\n"


@dataclass(frozen=True)
class Comparison:
    """The difference in mAP between two lines.

    Attributes:
        name: The names of both lines.
        by_seed: The difference for every seed that both have.
        interval: The 95 % bootstrap interval over people, who are resampled with all their queries, since the
            queries of one person are similar. More seeds cannot replace more people.
    """

    name: str
    by_seed: dict[int, float]
    interval: tuple[float, float]

    @property
    def difference(self) -> float:
        """The mean difference over seeds."""
        return statistics.mean(self.by_seed.values())


def compare(lines: Sequence[Line], name: str, other: str) -> Comparison:
    """Compare two lines of the table, query by query. For a pair model the re-scored ranking is compared.

    Raises:
        InputError: There is no such line, or the two lines share no seed with the same queries.
    """
    results = {line.name: line.results for line in lines}
    both = []
    for wanted in (name, other):
        line = wanted if wanted in results else f"{wanted}, its best 75 re-scored"
        if line not in results:
            raise InputError(f"--compare {wanted}", f"is not a line of the table: {'; '.join(results)}")
        both.append(results[line])
    first, second = both
    seeds = sorted(
        seed
        for seed in first.keys() & second.keys()
        if PEOPLE in first[seed] and first[seed][PEOPLE] == second[seed].get(PEOPLE)
    )
    if not seeds:
        raise InputError(
            f"--compare {name} {other}", "the two share no seed that was evaluated on the same queries"
        )
    precision, baseline = (
        np.array([result[seed][PRECISION] for seed in seeds], dtype=float) for result in both
    )
    differences = precision - baseline  # (S, Q), NaN without a match
    usable = ~np.isnan(differences[0])
    by_seed = dict(zip(seeds, differences[:, usable].mean(1).tolist()))
    _, person = np.unique(np.array(first[seeds[0]][PEOPLE])[usable], return_inverse=True)
    gained = np.bincount(person, differences[:, usable].mean(0))
    queries = np.bincount(person)
    drawn = np.random.default_rng(0).multinomial(
        len(queries), np.full(len(queries), 1 / len(queries)), 10_000
    )
    low, high = np.quantile(drawn @ gained / (drawn @ queries), (0.025, 0.975)).tolist()
    return Comparison(f"{name} over {other}", by_seed, (low, high))


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """The comparisons as a Markdown table, in points of mAP."""
    text = ["| comparison | mAP | by seed | 95 % over people |", "| --- | --: | --: | --: |"]
    for one in comparisons:
        mean, low, high, *seeds = (
            number(100 * value, 1, signed=True)
            for value in (one.difference, *one.interval, *one.by_seed.values())
        )
        text.append(f"| {one.name} | {mean} | {', '.join(seeds)} | {low} to {high} |")
    return "\n".join(text) + "\n"


def flat(lines: Sequence[Line], comparisons: Sequence[Comparison] = ()) -> dict[str, Any]:
    """All metrics as fractions, by ``<line>: <metric>``; comparisons by ``<line> over <line>: mAP``."""
    figures: dict[str, Any] = {}
    for line in lines:
        figures[f"{line.name}: seeds"] = list(line.results)
        figures[f"{line.name}: other_budget"] = line.differs
        for metric in METRICS if line.results else ():
            values = [result[metric] for result in line.results.values()]
            mean, spread = mean_and_spread(values)
            figures[f"{line.name}: {metric}"] = mean
            figures[f"{line.name}: {metric}_spread"] = spread
            figures[f"{line.name}: {metric}_by_seed"] = values
    for one in comparisons:
        figures[f"{one.name}: mAP"] = one.difference
        figures[f"{one.name}: mAP_by_seed"] = list(one.by_seed.values())
        figures[f"{one.name}: mAP_interval"] = list(one.interval)
    return figures


@dataclass(frozen=True)
class Curve:
    """mAP in per cent at (K,) numbers of pictures seen: mean, minimum and maximum over seeds."""

    seeds: int
    pictures: np.ndarray
    mean: np.ndarray
    least: np.ndarray
    greatest: np.ndarray


def learning_curve(runs: Sequence[Trained]) -> Curve | None:
    """A row's curve where all its finished seeds were evaluated; without finished seeds, where all were."""
    runs = [run for run in runs if run.evaluation] or runs
    curves = [{line["pictures"]: 100 * line["mAP"] for line in run.history if "mAP" in line} for run in runs]
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not common:
        return None
    values = np.array([[curve[x] for x in common] for curve in curves])
    return Curve(len(runs), np.array(common), values.mean(0), values.min(0), values.max(0))


def draw(rows: dict[str, list[Trained]], file: Path) -> None:
    """A figure of mAP against pictures seen, for embedding models and pair models; bands span the seeds."""
    names = short_names(list(rows))
    charts: dict[str, dict[str, Curve]] = {}
    for row, runs in rows.items():
        pair = runs[0].config.name == "kpm"
        if curve := learning_curve(runs):
            title = "Pair models, their best 75 re-scored" if pair else "Embedding models"
            charts.setdefault(title, {})[names[row]] = curve
    if not charts:
        raise InputError(
            "--png", "there are no curves: no run was evaluated while training (training.evaluate_every)"
        )
    with style():
        figure, panes = panels(4.8 * len(charts), 2.9, len(charts))
        for axes, title in zip(panes, sorted(charts)):
            draw_curves(axes, charts[title])
            axes.set_title(title)
        save_png(figure, file)


def draw_curves(axes: Axes, curves: dict[str, Curve]) -> None:
    """Draw the rows' curves into one panel, sorted by their last value, best first."""
    for name in sorted(curves, key=lambda name: -curves[name].mean[-1]):
        curve = curves[name]
        label = f"{name}  {curve.mean[-1]:.1f}" + (f"  ({curve.seeds} seeds)" if curve.seeds > 1 else "")
        (line,) = axes.plot(curve.pictures, curve.mean, label=label)
        colour = line.get_color()
        axes.fill_between(curve.pictures, curve.least, curve.greatest, color=colour, alpha=0.18, linewidth=0)
    greatest = max(curve.greatest.max() for curve in curves.values())
    least = min(curve.least.min() for curve in curves.values())
    axes.set_ylim(max(least, greatest - 35) - 1.5, greatest + 1.5)
    axes.set_xlim(left=0)
    axes.set(xlabel="pictures seen", ylabel="mAP, %")
    plain(axes)
    title = "mAP at the end; bands: range over seeds"
    place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)}
    axes.legend(fontsize=5, title=title, title_fontsize=5, alignment="left", **place)


def report(
    out: Path,
    wanted: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    compared: Sequence[tuple[str, str]],
    table: Path | None,
    png: Path | None,
    json_file: Path | None,
) -> None:
    """Print the table and write the requested files."""
    rows = read_rows(out, wanted)
    lines = table_lines(rows)
    if pairs or not wanted:
        lines += reranked_lines(out, list(rows), pairs)
    comparisons = [compare(lines, name, other) for name, other in compared]
    text = markdown(lines)
    if comparisons:
        text += "\n" + comparison_table(comparisons)
    print(text)
    if table:
        table.write_text(text, encoding="utf-8")
    if json_file:
        write(json_file, flat(lines, comparisons))
    if png:
        draw(rows, png)


def write(file: Path, values: dict[str, Any]) -> None:
    """Write JSON atomically, with one line per value."""
    lines = (
        f" {json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
    )
    new = file.with_name(f".{file.name}.new")
    new.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    new.replace(file)
