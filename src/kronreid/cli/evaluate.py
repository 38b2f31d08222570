"""``kronreid evaluate``: measure a model on a data set's query and gallery pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import (
    MATCHER_WEIGHT,
    add_command,
    add_layout,
    add_split,
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
    add_split(sub)
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
    from kronreid.data.readers import read
    from kronreid.evaluation import evaluate_dataset, table
    from kronreid.models.inference import Embedder, Matcher

    for option, suffix in (("json", None), ("html", ".html"), ("png", ".png")):
        if file := getattr(options, option):
            folder_must_exist(file, f"--{option}", suffix)
            if suffix:
                require(f"--{option}", "figures")
    dataset = read(options.data, options.layout, options.split)
    model = load_model(options.model, "MODEL")
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
    if options.json:
        own = "places" if isinstance(model, Embedder) else "itself"
        rerank_with = None if result.first_stage is None else options.matcher or own
        # What took part: `kronreid papers` shows only what a run has reached alone.
        took_part = {
            "layout": dataset.name,
            "rerank_top": options.rerank_top,
            "rerank_with": rerank_with,
            "matcher": options.matcher,
            "matcher_weight": options.matcher_weight,
            "k_reciprocal": options.k_reciprocal,
        }
        write(options.json, to_json(result.to_json() | took_part), "--json")
    if options.html or options.png:
        from kronreid.explain import write_report  # importing matplotlib takes time

        for file in filter(None, (options.html, options.png)):
            write_report(result, dataset.name, file)
    say(*table(result).splitlines())


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
