"""``kronreid evaluate``: measure a model on a data set's query and gallery pictures."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronreid.cli.options import (
    MATCHER_WEIGHT,
    add_command,
    add_layout,
    add_split_or_all,
    count_or_all,
    folder_must_exist,
    load_matcher,
    load_model,
    positive,
    to_json,
    write,
)
from kronreid.errors import InputError
from kronreid.extras import require
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands
    from kronreid.evaluation import Result
    from kronreid.models.inference import Embedder, Matcher

PRECISIONS = ("fp32", "bf16-matching", "bf16")


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(
        commands, "evaluate", run, "Measure a model on a data set's query and gallery pictures."
    )
    sub.add_argument("model", metavar="MODEL", help="an embedder, or a matcher alone")
    sub.add_argument("--data", required=True, metavar="ROOT", help="the data set's folder, or a list")
    add_layout(sub)
    add_split_or_all(
        sub,
        "which of CUHK03's splits, or all: their mean; MODEL may then hold a run for each, as train "
        "--split all leaves them (0)",
    )
    sub.add_argument(
        "--protocol", metavar="NAME", help="the evaluation protocol, see docs/protocols.md (the layout's own)"
    )
    sub.add_argument(
        "--matcher",
        metavar="MODEL",
        help="re-score the best candidates with this matcher instead of the model's own places",
    )
    sub.add_argument(
        "--rerank-top",
        type=count_or_all,
        metavar="100|all|0",
        help="how many candidates are re-scored, 0 for none (100 by the model's places, 75 by a matcher)",
    )
    sub.add_argument("--matcher-weight", type=float, metavar="W", help=MATCHER_WEIGHT)
    sub.add_argument(
        "--k-reciprocal", action="store_true", help="k-reciprocal re-ranking (Zhong et al. 2017)"
    )
    sub.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="bf16-matching: compare a matcher's maps in bfloat16, which hardly changes a ranking; bf16: "
        "compute the networks in bfloat16 too, which changes it (fp32)",
    )
    sub.add_argument("--batch-size", type=positive, default=64, help="pictures per pass (64)")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    sub.add_argument(
        "--html", type=Path, metavar="FILE", help="write a report with curves and the hardest queries"
    )
    sub.add_argument("--png", type=Path, metavar="FILE", help="write the same report as one picture")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.evaluation.evaluate_dataset`."""
    from kronreid.evaluation import table
    from kronreid.models.card import write_card

    for option, suffix in (("json", None), ("html", ".html"), ("png", ".png")):
        if file := getattr(options, option):
            folder_must_exist(file, f"--{option}", suffix)
            if suffix:
                require(f"--{option}", "figures")
                if options.split == "all":
                    raise InputError(f"--{option} {file}", "a report is of one split; name it by --split")
    if options.split == "all":
        _every_split(options)
        return
    result, layout, values = _measured(options, options.model, options.split or 0)
    if options.json:
        write(options.json, to_json(values), "--json")
        if Path(options.model).is_dir() and options.json.parent.samefile(options.model):
            write_card(options.json.parent)  # with these figures
    if options.html or options.png:
        from kronreid.explain import write_report  # importing matplotlib takes time

        for file in filter(None, (options.html, options.png)):
            write_report(result, layout, file)
    say(*table(result).splitlines())


def _measured(options: argparse.Namespace, path: str, split: int) -> "tuple[Result, str, dict[str, Any]]":
    """Evaluate the model at `path` on one split: the result, the data set's layout, and what JSON says."""
    from kronreid.data.check import describe
    from kronreid.data.readers import read
    from kronreid.evaluation import evaluate_dataset
    from kronreid.models.inference import Embedder, Matcher
    from kronreid.models.places import places_fingerprint

    dataset = read(options.data, options.layout, split)
    model = load_model(path, "MODEL")
    matcher = load_matcher(options.matcher) if options.matcher else None
    if options.matcher_weight is not None and matcher is None and not isinstance(model, Matcher):
        raise InputError(
            f"--matcher-weight {options.matcher_weight}", "there is no matcher; name one by --matcher"
        )
    set_precision([model] if matcher is None else [model, matcher], options.precision)
    result = evaluate_dataset(
        model,
        dataset,
        protocol=options.protocol or dataset.protocol,
        matcher=matcher,
        rerank_top=options.rerank_top,
        matcher_weight=options.matcher_weight,
        k_reciprocal=options.k_reciprocal,
        batch_size=options.batch_size,
        progress=True,
    )
    own = "places" if isinstance(model, Embedder) else "itself"
    # What took part: `kronreid papers` shows only what a run has reached alone.
    took_part = {
        "layout": dataset.name,
        "data": asdict(describe(dataset, split, result.protocol, "query", "gallery")),
        "fingerprint": model.fingerprint,
        "places_fingerprint": places_fingerprint(model.path) if model.path else None,
        "rerank_with": options.matcher or own if result.rerank_top else None,
        "matcher": options.matcher,
        "matcher_weight": options.matcher_weight,
        "k_reciprocal": options.k_reciprocal,
        "precision": options.precision,
    }
    return result, dataset.name, result.to_json() | took_part


def _every_split(options: argparse.Namespace) -> None:
    """Evaluate on all splits, each by the model that was trained on it if there are several."""
    from kronreid.data.readers import count_splits, read
    from kronreid.evaluation.report import aligned
    from kronreid.evaluation.splits import split_models, summary, summary_lines

    splits = count_splits(read(options.data, options.layout))
    models = split_models(options.model, splits)
    _must_not_know_the_test(models)
    each = [_measured(options, path, split)[2] for split, path in enumerate(models)]
    found = summary(each)
    if options.json:
        shared = {name: each[0][name] for name in each[0] if all(one[name] == each[0][name] for one in each)}
        write(options.json, to_json(shared | found), "--json")
    say(*aligned(summary_lines(found)))


def _must_not_know_the_test(models: list[str]) -> None:
    """Refuse one model for all splits if it learned from one of them.

    Raises:
        InputError: It did: the people of the other splits' tests were among those that it learned from.
    """
    record = Path(models[0]) / "run.json"
    if len(set(models)) > 1 or not record.is_file():
        return
    try:
        data = json.loads(record.read_text())["data"]
        layout, split = data["layout"], data["split"]
    except (ValueError, KeyError, TypeError):
        return  # `kronreid papers` names damaged records
    if layout in ("cuhk03-labeled", "cuhk03-detected"):
        raise InputError(
            models[0],
            f"was trained on split {split}, whose training people are test people of other splits; train a "
            "run for each (kronreid train --split all)",
        )


def set_precision(tools: "Sequence[Embedder | Matcher]", precision: str) -> None:
    """Make models compute in one of `PRECISIONS`.

    Raises:
        InputError: bf16-matching without a matcher, or bf16 for an ONNX file.
    """
    import torch

    from kronreid.models.inference import Matcher
    from kronreid.models.onnx import OnnxEmbedder

    if precision == "fp32":
        return
    matchers = [tool for tool in tools if isinstance(tool, Matcher)]
    if precision == "bf16-matching" and not matchers:
        raise InputError("--precision bf16-matching", "there is no matcher; name one by --matcher")
    for matcher in matchers:
        matcher.matching = torch.bfloat16
    for tool in tools if precision == "bf16" else ():
        if isinstance(tool, OnnxEmbedder):
            raise InputError(
                "--precision bf16",
                f"{tool.path} is an ONNX file, whose precision was set when it was exported",
            )
        tool.autocast = True
