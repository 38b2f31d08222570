"""`kronreid demo`: the complete workflow on generated pedestrians, in a few minutes on two CPU cores.

It writes a data set, trains a small HOReID and a small KPM, evaluates both alone and together, builds a
gallery, searches it with a new picture, follows people through the videos of several cameras, and writes a
report.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kronreid.data.generated import contact_sheet, draw, write_market1501
from kronreid.data.images import open_rgb
from kronreid.data.readers import read
from kronreid.data.records import ReIDDataset
from kronreid.demo.street import SEED, follow_people, record
from kronreid.errors import InputError
from kronreid.evaluation import RankedList, evaluate_dataset
from kronreid.explain import (
    Chart,
    Command,
    DemoReport,
    Plate,
    RankedPictures,
    attention_figure,
    correspondence_figure,
    part_figure,
    places_figure,
    write_demo_report,
)
from kronreid.gallery import Gallery
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.loading import load, wrap
from kronreid.training.config import Config, build_model, make_config
from kronreid.training.history import HISTORY, read_history
from kronreid.training.train import train

log = logging.getLogger(__name__)

#: The options of both small models. They start from random weights, so nothing is downloaded.
RECIPE: dict[str, Any] = {
    "input": {"height": 128, "width": 64, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    "augment": {"flip": 0.5, "shift": 0.06, "erase": 0.3},
    "data": {"layout": "market1501", "workers": 1},
    "optimiser": {"name": "adamw", "lr": 3e-3, "schedule": "cosine", "factor": 0.02, "warmup": 30},
    "training": {
        "iterations": 600,
        "epoch": 25,
        "evaluate_every": 5,
        "precision": "bf16-mixed",
        "average_weights": 0.98,
    },
}
#: timm's smallest residual network: 0.4 million parameters, a thousand pictures per second on two cores.
BACKBONE = {"name": "test_resnet", "weights": "none"}
MODELS: dict[str, dict[str, Any]] = {
    "horeid": {
        "model": {
            "name": "horeid",
            "backbone": {**BACKBONE, "last_stride": 1},
            "channels": 128,
            "dimension": 256,
            "parts": 16,
            "normalise_levels": True,
            "first_order": True,
        },
        "batch": {"identities": 16, "pictures": 4, "across_cameras": True},
        "loss": {"average": "active", "identity": 0.5},
        "places": {"fit": True},
    },
    "kpm": {
        "model": {"name": "kpm", "backbone": {**BACKBONE, "last_stride": 2}},
        "batch": {"identities": 16, "pictures": 4, "across_cameras": True, "negatives": 3},
        "loss": {"average": "active", "pooled": 1.0, "identity": 0.5},
    },
}
NAMES = {"horeid": "HOReID", "kpm": "KPM"}
DATA: dict[str, Any] = {
    "train_identities": 500,
    "test_identities": 60,
    "cameras": 6,
    "pictures_per_camera": 2,
}
#: The person to find in the gallery, and the number of a shot that is in no data set.
FOUND = DATA["train_identities"] + 3
NEW_SHOT = 10_000


def run(out: Path) -> Path:
    """Run the demonstration.

    Args:
        out: Folder for the report, the data, the runs and the gallery. The folder of an earlier demo is
            replaced.

    Returns:
        The path of the report, ``out/index.html``. ``out/metrics.json`` has its metrics.

    Raises:
        InputError: `out` is a file, or a folder that is not from an earlier demo.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}", "is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        if not (out / "data").is_dir():
            raise InputError(f"--out {out}", "is not the folder of an earlier demo; name another folder")
        shutil.rmtree(out)
    seconds: dict[str, float] = {}
    with timed("generate pedestrians", seconds):
        write_market1501(out / "data", seed=SEED, **DATA)
        dataset = read(out / "data", "market1501")
    metrics: dict[str, dict[str, Any]] = {}
    for name, options in MODELS.items():
        config = make_config({**RECIPE, **options, "data": {**RECIPE["data"], "root": str(out / "data")}})
        with timed(f"evaluate the untrained {NAMES[name]}", seconds):
            metrics[name] = {"untrained": measure(untrained(config), dataset)}
        with timed(f"train {NAMES[name]}", seconds):
            train(config, out / "runs" / name)
    embedder, matcher = load(out / "runs" / "horeid"), load(out / "runs" / "kpm")
    assert isinstance(embedder, Embedder)
    assert isinstance(matcher, Matcher)
    with timed("evaluate both models, alone and together", seconds):
        metrics["places"] = measure(embedder, dataset)
        metrics["horeid"]["trained"] = metrics["places"]["first_stage"]  # the vectors alone
        metrics["kpm"]["trained"] = measure(matcher, dataset)
        metrics["reranked"] = measure(embedder, dataset, matcher)
    with timed("build a gallery and search it", seconds):
        found = search_gallery(out, dataset, embedder, matcher)
    with timed("record the cameras of a street", seconds):
        recordings = record(out)
    with timed("follow its people and join them across cameras", seconds):
        street, followed = follow_people(out, recordings, embedder)
    everything = {**metrics, "street": followed}
    (out / "metrics.json").write_text(json.dumps(everything, indent=2) + "\n")
    with timed("draw the figures", seconds):
        lists, plates = figures(dataset, embedder, matcher)
        people = range(DATA["train_identities"] + 1, DATA["train_identities"] + 7)
        report = DemoReport(
            metrics=metrics,
            data=f"The training set has {len(dataset.train):,} pictures of {DATA['train_identities']} "
            f"generated people. The test set has {len(dataset.query):,} queries and "
            f"{len(dataset.gallery):,} gallery pictures of {DATA['test_identities']} other people "
            f"and of distractors, from {DATA['cameras']} cameras.",
            charts=charts(out),
            contact_sheet=contact_sheet(people, shots=2, seed=SEED),
            ranked_lists=lists,
            gallery_search=found,
            plates=plates,
            commands=commands(out),
            timings=seconds,
            street=street,
        )
    page = write_demo_report(out, report)
    print_table(metrics)
    return page


@contextmanager
def timed(step: str, seconds: dict[str, float]) -> Iterator[None]:
    """Log the beginning and the end of a step, and store its duration in `seconds`."""
    log.info("%s …", step)
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
    log.info("%s: %.0f s", step, seconds[step])


def untrained(config: Config) -> Embedder | Matcher:
    """The model of a config with its initial weights."""
    torch.manual_seed(config.training.seed)
    return wrap(build_model(config), config.input)


def measure(
    model: Embedder | Matcher, dataset: ReIDDataset, matcher: Matcher | None = None
) -> dict[str, Any]:
    """The metrics of `kronreid evaluate --json`."""
    return evaluate_dataset(
        model, dataset, protocol=dataset.protocol, matcher=matcher, progress=True
    ).to_json()


def search_gallery(out: Path, dataset: ReIDDataset, embedder: Embedder, matcher: Matcher) -> RankedPictures:
    """Add the gallery pictures to a gallery, and search it with a new picture of one of its people."""
    query = out / "query.jpg"
    draw(FOUND, 2, NEW_SHOT, seed=SEED).save(query, quality=92)
    with Gallery(out / "people.gallery", embedder, matcher) as gallery:
        gallery.add(dataset.root / "bounding_box_test")
        result = gallery.search(query, top=10, rerank_top=75)
    milliseconds = ", ".join(f"{stage} {1000 * value:.0f} ms" for stage, value in result.seconds.items())
    return RankedPictures(
        query=open_rgb(query),
        hits=[open_rgb(hit.path) for hit in result.hits],
        correct=[hit.identity is not None and int(hit.identity) == FOUND for hit in result.hits],
        labels=[
            f"{hit.probability:.2f}" if hit.probability is not None else f"{hit.similarity:.2f}"
            for hit in result.hits
        ],
        title="Searching for a new picture",
        caption="The query is in neither the data set nor the gallery. The numbers are KPM's probability of "
        f"the same person. Time: {milliseconds}.",
    )


def figures(
    dataset: ReIDDataset, embedder: Embedder, matcher: Matcher
) -> tuple[list[RankedPictures], list[Plate]]:
    """Ranked lists of a few queries, and explanations of one pair."""
    protocol, every = dataset.protocol, len(dataset.query)
    found = evaluate_dataset(embedder, dataset, protocol=protocol, rerank_top=0, hardest=every).hardest
    chosen = [
        ("Found at once", first_where(found, lambda right: right[:3].all())),
        ("Found late", first_where(found, lambda right: right[1:5].any() and not right[0])),
        ("Missed", first_where(found, lambda right: not right[:5].any())),
    ]
    lists: list[RankedPictures] = []
    plates: list[Plate] = []
    for title, ranked in chosen:
        if ranked is None:
            continue
        scores = matcher.score(ranked.query, ranked.pictures)[0]
        lists.append(
            RankedPictures(
                open_rgb(ranked.query),
                [open_rgb(path) for path in ranked.pictures],
                ranked.right.tolist(),
                [f"{score:.2f}" for score in scores],
                title,
                "HOReID's vectors ranked the list. The numbers are KPM's probability of the same person.",
            )
        )
        if not plates:
            plates = explain_pair(ranked.query, ranked.pictures[0], embedder, matcher)
    return lists, plates


def explain_pair(a: Path, b: Path, embedder: Embedder, matcher: Matcher) -> list[Plate]:
    """Figures of the places, correspondences, attention and part maps of one pair."""
    why = matcher.explain(a, b)
    maps = embedder.part_maps(a)
    pixels = embedder.pixels(a).permute(1, 2, 0).numpy()
    channels = range(0, len(maps), max(1, len(maps) // 8))[:8]
    return [
        Plate(
            places_figure(embedder.explain(a, b)),
            "What HOReID's places say",
            "The verdict is a sum over places. Each line leads from a place to its best match.",
        ),
        Plate(
            correspondence_figure(why, scale=1),
            "Which part matched which",
            "Lines lead from places of the first picture to where KPM looks in the second. Faint lines are "
            "uncertain.",
        ),
        Plate(
            attention_figure([why]),
            "Where KPM pays attention",
            "Bright places count more in the comparison.",
        ),
        Plate(
            part_figure([("", pixels[None], maps[None])], channels),
            "HOReID's parts",
            "The maps show where its sampler takes some of the part descriptors from.",
        ),
    ]


def first_where(lists: Sequence[RankedList], wanted: Callable[[np.ndarray], Any]) -> RankedList | None:
    """The first of the lists, worst first, whose right and wrong hits satisfy `wanted`."""
    return next((ranked for ranked in lists if wanted(ranked.right)), None)


def charts(out: Path) -> list[Chart]:
    """Charts of the loss and the mAP of both trainings against the pictures seen."""
    loss, quality = {}, {}
    for key, name in NAMES.items():
        rows = read_history(out / "runs" / key / HISTORY)
        loss[name] = [row["pictures"] for row in rows], [row["loss"] for row in rows]
        measured = [row for row in rows if "mAP" in row]
        quality[name] = [row["pictures"] for row in measured], [100 * row["mAP"] for row in measured]
    return [
        Chart(
            "Loss",
            "pictures seen",
            "loss",
            loss,
            "The models have different losses, so compare only the shapes of the curves.",
        ),
        Chart(
            "mAP on unseen people",
            "pictures seen",
            "mAP, %",
            quality,
            "KPM re-scores the best 75 of its own ranking.",
        ),
    ]


def commands(out: Path) -> list[Command]:
    """Commands to try next."""
    people = out / "people.gallery"
    return [
        Command(
            "search the gallery",
            f"kronreid search {out}/query.jpg --gallery {people} --matcher {out}/runs/kpm",
        ),
        Command(
            "compare two pictures",
            f"kronreid match {out}/query.jpg {out}/data/query/{FOUND:04d}_c1s1_000000_00.jpg "
            f"--model {out}/runs/horeid --png match.png",
        ),
        Command(
            "evaluate again",
            f"kronreid evaluate {out}/runs/horeid --data {out}/data --matcher {out}/runs/kpm",
        ),
        Command(
            "train on your own pictures",
            "kronreid train horeid/market1501/horeid --data ROOT --out runs/horeid",
        ),
    ]


def print_table(metrics: dict[str, dict[str, Any]]) -> None:
    """Print the metrics of the untrained and the trained models."""
    print(f"{'':22}{'rank-1':>8}{'rank-5':>8}{'mAP':>8}{'mINP':>8}")
    rows = [
        (f"{NAMES[name]} {state}", metrics[name][state])
        for name in MODELS
        for state in ("untrained", "trained")
    ]
    rows += [("HOReID with places", metrics["places"]), ("HOReID, then KPM", metrics["reranked"])]
    for label, figures_ in rows:
        values = "".join(f"{100 * figures_[key]:7.1f}%" for key in ("rank1", "rank5", "mAP", "mINP"))
        print(f"{label:22}{values}")
