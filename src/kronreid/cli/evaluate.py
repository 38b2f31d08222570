"""``kronreid evaluate``: a model on a data set's query and gallery pictures."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import (
    MATCHER_WEIGHT,
    add_command,
    count_or_all,
    folder_must_exist,
    load_matcher,
    load_model,
    positive,
    to_json,
    write,
)

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Its options."""
    sub = add_command(
        commands, "evaluate", run, "Measure a model on a data set's query and gallery pictures."
    )
    sub.add_argument("model", metavar="MODEL", help="an embedder, or a matcher alone")
    sub.add_argument("--data", required=True, metavar="ROOT", help="the data set's folder")
    sub.add_argument("--layout", help="how it is laid out: market1501, folders (looks)")
    sub.add_argument(
        "--protocol", metavar="NAME", help="what counts, see docs/protocols.md (the layout's own)"
    )
    sub.add_argument("--matcher", metavar="MODEL", help="re-score the best candidates with this matcher")
    sub.add_argument(
        "--rerank-top", type=count_or_all, default=75, metavar="75|all", help="how many of them (75)"
    )
    sub.add_argument("--matcher-weight", type=float, metavar="W", help=MATCHER_WEIGHT)
    sub.add_argument(
        "--k-reciprocal", action="store_true", help="k-reciprocal re-ranking (Zhong et al. 2017)"
    )
    sub.add_argument("--batch-size", type=positive, default=64, help="pictures per pass (64)")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    sub.add_argument(
        "--html", type=Path, metavar="FILE", help="write a report with curves and the hardest queries"
    )
    sub.add_argument("--png", type=Path, metavar="FILE", help="the same as one picture")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.evaluation.evaluate_dataset`."""
    from kronreid.data.readers import read
    from kronreid.evaluation import evaluate_dataset
    from kronreid.evaluation.report import table, write_report

    for option, suffix in (("json", None), ("html", ".html"), ("png", ".png")):
        if file := getattr(options, option):
            folder_must_exist(file, f"--{option}", suffix)
    dataset = read(options.data, options.layout)
    model = load_model(options.model, "MODEL")
    result = evaluate_dataset(
        model,
        dataset,
        protocol=options.protocol or dataset.protocol,
        matcher=load_matcher(options.matcher) if options.matcher else None,
        rerank_top=options.rerank_top,
        matcher_weight=options.matcher_weight,
        k_reciprocal=options.k_reciprocal,
        batch_size=options.batch_size,
        progress=True,
    )
    if options.json:
        write(options.json, to_json(result.to_json()), "--json")
    for file in filter(None, (options.html, options.png)):
        write_report(result, dataset, file)
    print(table(result))
