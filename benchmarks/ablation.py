"""Train several rows, one after another, and compare them in a report.

    python benchmarks/ablation.py horeid/market1501-split kpm/market1501-split/{kpm,kpm-rsa-hg} \\
        --seeds 0 1 2 --out runs/ablation --rerank horeid kpm-rsa-hg --compare horeid gap \\
        --table table.md --png curves.png --json ablation.json

Every row is trained once per seed, in ``DIR/<row>/seed-<seed>``, a run folder with a ``train.log``. The
newest weights are then evaluated in full precision, like `kronreid evaluate` (``evaluation.json``; for a pair
model also its pooled ranking, ``evaluation-pooled.json``). The same command continues after an interruption:
it skips finished runs and resumes an interrupted one after its last complete epoch. A run that fails is
reported and does not stop the others.

If a row starts from ``runs/NAME`` and the row NAME is also given, it starts from NAME's run of the same seed.
To include a run that was trained by hand, evaluate it with
`kronreid evaluate RUN --data ROOT --json RUN/evaluation.json`.

The report gives the mean and the standard deviation over seeds. It marks rows whose budget (pictures seen,
batch, augmentation, input, schedule, backbone) differs from that of most rows. ``--compare`` adds the
difference between two lines, for each seed, with a confidence interval over the people of the queries.
``--report-only`` reports the results so far; without a row, those of all run folders below ``--out``. It
reads no weights, only the small files of the folders.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ablation_report import EVALUATION, PEOPLE, POOLED, PRECISION, RERANKED, read_rows, report, write
from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation import evaluate_dataset
from kronreid.locks import alone
from kronreid.models.inference import Matcher
from kronreid.models.loading import load
from kronreid.models.storage import WEIGHTS
from kronreid.papers import row_names
from kronreid.training.config import Config, read_config
from kronreid.training.data import read_dataset
from kronreid.training.records import changes
from kronreid.training.train import train

log = logging.getLogger("kronreid.ablation")

BUSY = "another process is training there; wait for it, or use --report-only"
#: How the second model re-ranks: with the same weight as the first stage, or alone as in KPM.
SAYS = {"equal say": None, "alone": 1.0}


@dataclass(frozen=True)
class Planned:
    """One run: the name of its row, its seed, row or file, folder and options, and the run it starts from."""

    row: str
    seed: int
    source: str
    folder: Path
    config: Config
    start: Path | None

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed}"


def rows_of(given: Sequence[str]) -> dict[str, str]:
    """The rows and config files to train, by name.

    Args:
        given: Rows, data sets like ``horeid/market1501-split`` for all their rows, and YAML files.

    Returns:
        The arguments of `read_config` by the row's name. A file's row has the name of the file.

    Raises:
        InputError: There is no such row, or two files have the same name.
    """
    rows: dict[str, str] = {}
    for one in given:
        several = [name for name in row_names() if name.startswith(f"{one.rstrip('/')}/")]
        for source in several or [one]:
            name = source if source in row_names() else Path(source).stem
            if rows.setdefault(name, source) != source:
                raise InputError(f"CONFIG {source}", f"has the name of {rows[name]}; rename one")
    return rows


def plan(rows: dict[str, str], seeds: Sequence[int], settings: Sequence[str], out: Path) -> list[Planned]:
    """All runs, seed by seed. A row that starts from another row comes after it.

    Raises:
        InputError: A config is wrong, or a run's folder holds a run with other options.
    """
    planned: list[Planned] = []
    for seed in seeds:
        first: list[Planned] = []
        later: list[Planned] = []
        runs = {row: out / row / f"seed-{seed}" for row in rows}
        starts = {f"runs/{Path(row).name}": folder for row, folder in reversed(runs.items())}
        for row, source in rows.items():
            own = [*settings, f"training.seed={seed}"]
            config = read_config(source, own)
            start = starts.get(str(config.model.get("backbone", {}).get("weights")))
            if start is not None:
                config = read_config(source, [*own, f"model.backbone.weights={json.dumps(str(start))}"])
            (first if start is None else later).append(Planned(row, seed, source, runs[row], config, start))
        planned += first + later
    for run in planned:
        if run.config.training.devices != 1:
            raise InputError(run.source, f"training.devices {run.config.training.devices}; only 1 works here")
        if (run.folder / "config.yaml").is_file():
            other = changes(run.config, read_config(run.folder / "config.yaml"))
            if other:
                name, (here, there) = next(iter(other.items()))
                raise InputError(
                    f"--out {run.folder}",
                    f"was trained with {name} {there}, not {here}; use another --out or remove that folder",
                )
    return planned


def train_all(planned: Sequence[Planned]) -> int:
    """Train and evaluate unfinished runs one at a time, print a line for each, and return how many failed."""
    waiting = [run for run in planned if not (run.folder / EVALUATION).is_file()]
    if len(waiting) < len(planned):
        print(f"{len(planned) - len(waiting)} of {len(planned)} runs are finished", flush=True)
    failed, started = 0, time.perf_counter()
    for number, run in enumerate(waiting, start=1):
        begun = time.perf_counter()
        with logged(run.folder / "train.log"):
            try:
                if run.start is not None and not (run.start / EVALUATION).is_file():
                    raise InputError("", f"starts from {run.start}, which is not finished")
                train(run.config, run.folder, resume=True, source=run.source)
                found = evaluate_run(run.folder, run.config)
                outcome = f"mAP {100 * found['mAP']:.1f}, rank-1 {100 * found['rank1']:.1f}"
            except Exception as error:
                log.exception("%s failed", run)
                failed, outcome = failed + 1, f"FAILED ({error}); see {run.folder / 'train.log'}"
        gc.collect()  # the trainer and its loaders have reference cycles
        now = time.perf_counter()
        left = (now - started) / number * (len(waiting) - number) / 3600
        rest = f"; about {left:.1f} h to go" if number < len(waiting) else ""
        minutes = (now - begun) / 60
        print(f"[{number}/{len(waiting)}] {run}: {outcome}, {minutes:.1f} min{rest}", flush=True)
    return failed


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Append everything that the project logs to `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("kronreid")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def evaluate_run(folder: Path, config: Config) -> dict[str, Any]:
    """Evaluate a run's newest weights in full precision and write the metrics to its folder."""
    dataset = read_dataset(config.data)
    tool = load(folder)
    if isinstance(tool, Matcher):
        ranking = SimpleNamespace(embed=tool.embed)  # hides the methods that re-score
        write(folder / POOLED, measured(ranking, dataset))
    found = measured(tool, dataset)
    write(folder / EVALUATION, found)
    return found


def measured(tool: Any, dataset: ReIDDataset, **options: Any) -> dict[str, Any]:
    """The output of `kronreid evaluate --json`, plus AP and person of every query for comparisons of rows."""
    result = evaluate_dataset(tool, dataset, protocol=dataset.protocol, progress=True, **options)
    precision = [None if math.isnan(one) else round(one, 5) for one in result.average_precision.tolist()]
    people = [picture.identity for picture in dataset.query]
    return result.to_json() | {PRECISION: precision, PEOPLE: people}


def rerank_all(planned: Sequence[Planned], pairs: Sequence[tuple[str, str]], out: Path) -> None:
    """Re-rank the best 75 of the first row of each pair by its second row, for each seed with both finished.

    Earlier results stay if the weights were removed since.
    """
    runs = {(run.row, run.seed): run for run in planned if (run.folder / EVALUATION).is_file()}
    for embedder, matcher in pairs:
        for seed in dict.fromkeys(run.seed for run in planned):
            if (embedder, seed) not in runs or (matcher, seed) not in runs:
                print(f"{embedder} re-ranked by {matcher} seed {seed}: one of the runs is not finished")
                continue
            run, other = runs[embedder, seed], runs[matcher, seed]
            folder = out / RERANKED / f"{embedder}+{matcher}".replace("/", "_")
            file = folder / f"seed-{seed}.json"
            if not all((one.folder / WEIGHTS).is_file() for one in (run, other)):
                if not file.is_file():
                    print(f"{embedder} re-ranked by {matcher} seed {seed}: one of the runs has no weights")
                continue
            first, second = load(run.folder), load(other.folder)
            assert isinstance(second, Matcher)
            names = {"embedder": embedder, "matcher": matcher}
            prints = {"fingerprints": [first.fingerprint, second.fingerprint]}
            if file.is_file() and json.loads(file.read_text())["fingerprints"] == prints["fingerprints"]:
                continue
            dataset = read_dataset(run.config.data)
            found = {
                say: measured(first, dataset, matcher=second, matcher_weight=weight)
                for say, weight in SAYS.items()
            }
            folder.mkdir(parents=True, exist_ok=True)
            write(file, names | prints | {"results": found})
            figures = ", ".join(f"{say} mAP {100 * result['mAP']:.1f}" for say, result in found.items())
            print(f"{embedder} re-ranked by {matcher} seed {seed}: {figures}", flush=True)


def resolve(name: str, rows: Sequence[str]) -> str:
    """The row with a name: its full name, its last part, or paper and last part, like ``kpm/baseline``.

    Raises:
        InputError: No row or several rows match.
    """
    paper = {row: f"{Path(row).parts[0]}/{Path(row).name}" for row in rows}
    found = [row for row in rows if name in (row, paper[row]) or row.endswith(f"/{name}")]
    if len(found) != 1:
        raise InputError(
            f"--rerank {name}",
            f"matches {'several' if found else 'none'} of the rows: {', '.join(found or rows)}",
        )
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rows", nargs="*", metavar="ROW|CONFIG", help="rows, data sets of rows, or YAML files"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the runs' folder")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="key=value", help="for every row"
    )
    parser.add_argument("--rerank", nargs=2, action="append", default=[], metavar=("EMBEDDER", "MATCHER"))
    parser.add_argument(
        "--compare",
        nargs=2,
        action="append",
        default=[],
        metavar=("ROW", "BASELINE"),
        help="compare two lines of the table, query by query",
    )
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the Markdown table")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the learning curves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    errors = logging.StreamHandler()  # other messages go only to the runs' own files
    errors.setLevel(logging.ERROR)
    logging.basicConfig(format="%(message)s", handlers=[errors])
    failed = 0
    try:
        for file in filter(None, (options.table, options.png, options.json)):
            if not file.parent.is_dir():
                raise InputError(file, f"there is no folder {file.parent}")
        rows = rows_of(options.rows)
        if not rows and not options.report_only:
            raise InputError("ROW", "name at least one row, or use --report-only")
        known = list(rows) or list(read_rows(options.out))
        pairs = [(resolve(first, known), resolve(second, known)) for first, second in options.rerank]
        if not options.report_only:
            planned = plan(rows, list(dict.fromkeys(options.seeds)), options.set, options.out)
            kinds = {run.row: run.config.name for run in planned}
            for _, matcher in pairs:
                if kinds[matcher] != "kpm":
                    raise InputError(f"--rerank {matcher}", "is an embedder; name a pair model")
            with alone(options.out, BUSY):
                failed = train_all(planned)
                rerank_all(planned, pairs, options.out)
        report(options.out, list(rows), pairs, options.compare, options.table, options.png, options.json)
    except InputError as error:
        print(f"ablation: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablation: stopped; run the same command to continue", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
