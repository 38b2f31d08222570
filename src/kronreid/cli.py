"""The command line: parses, calls the rooms, prints. Rooms are imported by the command that needs them."""

import argparse
import io
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kronreid.errors import InputError

if TYPE_CHECKING:
    from kronreid.models.inference import Embedder, Matcher


MATCHER_WEIGHT = "its say in the new order, 0 to 1 (0.5 beside an embedder, 1 alone)"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error is said."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see '{self.prog} --help'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, or 2 after bad input, or 130 after Ctrl-C.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("kronreid").setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):  # names of files may be no UTF-8: they are printed as they are
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    try:
        options = make_parser().parse_args(arguments)
        options.run(options)
    except InputError as error:
        print(f"kronreid: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kronreid: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # "kronreid … | head"
        sys.stderr.close()
        return 0
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; README and docs show its use."""
    parser = Parser(prog="kronreid", description="Find a person again in pictures of people.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("demo", run_demo, "The whole job on generated pedestrians, with a report at the end.")
    sub.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder of the report (demo)"
    )

    sub = command("train", run_train, "Train a model.")
    sub.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file, see configs/")
    sub.add_argument("--data", metavar="ROOT", help="the data set's folder, instead of the config's")
    sub.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (runs/<name of the config>)")
    sub.add_argument("--resume", action="store_true", help="go on where an interrupted run in --out stopped")
    changes = "change options, like training.iterations=200"
    sub.add_argument("--set", nargs="+", action="extend", default=[], metavar="key=value", help=changes)

    sub = command("evaluate", run_evaluate, "Measure a model on a data set's query and gallery pictures.")
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

    sub = command("index", run_index, "Put pictures into a gallery.")
    sub.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="files, folders, patterns or lists (CSV, Parquet, COCO, MOT)",
    )
    sub.add_argument("--model", required=True, metavar="MODEL", help="the embedder")
    add_gallery(sub)
    sub.add_argument("--batch-size", type=positive, default=64, help="pictures per pass (64)")

    sub = command("gallery", run_gallery, "Look after a gallery: info, list, delete, export, verify.")
    sub.add_argument("action", choices=["info", "list", "delete", "export", "verify"])
    add_gallery(sub)
    sub.add_argument("--path", help="only this picture, or those below this folder")
    sub.add_argument("--csv", type=Path, metavar="FILE", help="where export writes")
    add_filters(sub)

    sub = command("search", run_search, "Find a person in a gallery.")
    sub.add_argument("query", nargs="+", metavar="QUERY", help="one picture, or several of one person")
    add_gallery(sub)
    sub.add_argument("--model", metavar="MODEL", help="the embedder that made the gallery, if it has moved")
    sub.add_argument("--matcher", metavar="MODEL", help="look again at the best with this matcher")
    sub.add_argument("--top", type=positive, default=20, help="how many hits (20)")
    sub.add_argument(
        "--rerank-top", type=positive, default=100, metavar="N", help="how many it looks at (100)"
    )
    sub.add_argument("--matcher-weight", type=float, default=0.5, metavar="W", help=MATCHER_WEIGHT)
    add_filters(sub)
    sub.add_argument(
        "--group-by", metavar="KEY", help="group hits by identity, camera or an attribute like track"
    )
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the hits")
    sub.add_argument("--html", type=Path, metavar="FILE", help="write a page with the pictures")

    sub = command("match", run_match, "Compare two pictures, and show why.")
    sub.add_argument("a", metavar="A", help="a picture")
    sub.add_argument("b", metavar="B", help="another one")
    sub.add_argument("--matcher", required=True, metavar="MODEL", help="the matcher")
    sub.add_argument("--png", type=Path, metavar="FILE", help="draw correspondences and attention")
    sub.add_argument(
        "--json", type=Path, metavar="FILE", help="write the probability, correspondences and attention"
    )

    sub = command("summary", run_summary, "Parameters, multiply-adds and layers of a model.")
    sub.add_argument("model", metavar="MODEL|CONFIG", help="a model folder or a config file")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def add_gallery(parser: argparse.ArgumentParser) -> None:
    """The option that names a gallery."""
    parser.add_argument(
        "--gallery", required=True, metavar="URI", help="a file, or http://host:port of a server"
    )


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The options that choose pictures of a gallery."""
    parser.add_argument("--camera", nargs="+", help="only these cameras")
    parser.add_argument(
        "--since", metavar="TIME", help="only pictures taken then or later, like 2026-03-01T12:00"
    )
    parser.add_argument("--until", metavar="TIME", help="only pictures taken then or earlier")
    parser.add_argument(
        "--where", nargs="+", default=[], metavar="key=value", help="only pictures with these values"
    )


def filters(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_filters` was given, as the gallery takes it."""
    where = dict(pair(text) for text in options.where)
    return {"camera": options.camera, "since": options.since, "until": options.until, "where": where}


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number above 0 is expected")
    return int(text)


def count_or_all(text: str) -> int | str:
    """A whole number above 0, or the word all."""
    return text if text == "all" else positive(text)


def run_demo(options: argparse.Namespace) -> None:
    """See `kronreid.demo`."""
    from kronreid.demo import run

    print(f"report: {run(options.out)}")


def run_train(options: argparse.Namespace) -> None:
    """See `kronreid.training.train`."""
    from kronreid.training.config import read_config
    from kronreid.training.train import train

    changes = [*options.set, *([f"data.root={json.dumps(options.data)}"] if options.data else [])]
    config = read_config(options.config, changes)
    out = options.out or Path("runs") / options.config.stem
    print(f"run: {train(config, out, options.resume)}")


def run_evaluate(options: argparse.Namespace) -> None:
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


def run_index(options: argparse.Namespace) -> None:
    """See `kronreid.gallery.Gallery.add`."""
    from kronreid.gallery import Gallery

    model = load_model(options.model, "--model")
    with Gallery(options.gallery, model) as gallery:
        report = gallery.add(options.images, batch_size=options.batch_size)
        print(
            f"{report.added} added, {report.skipped_existing} already there, "
            f"{len(report.unreadable)} unreadable; {gallery.count} in {options.gallery}; "
            f"{report.per_second:.0f} pictures/s"
        )
    for picture in report.unreadable:
        print(f"  {picture.path}: {picture.reason}", file=sys.stderr)


def run_search(options: argparse.Namespace) -> None:
    """See `kronreid.gallery.Gallery.search`."""
    from kronreid.gallery import Gallery

    matcher = load_matcher(options.matcher) if options.matcher else None
    with Gallery(options.gallery, matcher=matcher) as gallery:
        if not options.model and not Path(gallery.model).is_dir():
            raise InputError(
                f"--model: {options.gallery} was made by a model that is not at {gallery.model!r}; name it"
            )
        gallery.attach(load_model(options.model or gallery.model, "--model"))
        result = gallery.search(
            options.query,
            options.top,
            options.rerank_top,
            matcher_weight=options.matcher_weight,
            group_by=options.group_by,
            **filters(options),
        )
    if options.json:
        write(options.json, to_json(result.as_dict()), "--json")
    if options.html:
        from kronreid.explain import correspondence_figure
        from kronreid.gallery import search_page

        write(options.html, search_page(result, options.query, matcher, correspondence_figure), "--html")
    for hit in result.hits:
        probability = "" if hit.probability is None else f"  match {hit.probability:.3f}"
        print(f"{hit.rank:4}  similarity {hit.similarity:.3f}{probability}  {hit.path}")
    print("  ".join(f"{stage} {1000 * seconds:.0f} ms" for stage, seconds in result.seconds.items()))
    for reason in result.unreadable:
        print(f"not re-scored: {reason}", file=sys.stderr)


def run_gallery(options: argparse.Namespace) -> None:
    """See the methods of `kronreid.gallery.Gallery`."""
    from kronreid.gallery import Gallery, selection_of

    selection = selection_of(**filters(options), path=options.path)
    if options.action == "export":
        if options.csv is None:
            raise InputError("--csv: names the file that export writes")
        folder_must_exist(options.csv, "--csv")
    with Gallery(options.gallery) as gallery:
        if options.action == "info":
            info = gallery.info()
            size = "" if info.bytes_on_disk is None else f", {info.bytes_on_disk / 1e6:.1f} MB"
            print(f"{info.uri}: {info.count:,} pictures, {info.dimension} dimensions{size}")
            print(f"made by {info.model or 'an unknown model'} ({info.fingerprint[:12]})")
        elif options.action == "list":
            for entry in gallery.entries(selection):
                print(f"{entry.identity or '-':>8}  {entry.camera or '-':>6}  {entry.path}")
        elif options.action == "delete":
            print(f"{gallery.delete(selection)} deleted; {gallery.count} left")
        elif options.action == "export":
            print(f"{gallery.export(options.csv, selection)} rows in {options.csv}")
        else:
            report = gallery.verify()
            print(f"{report.checked} checked: {'all intact' if report.intact else 'NOT intact'}")
            for reason in ("missing", "changed", "bad_vectors"):
                for what in getattr(report, reason):
                    print(f"  {reason.replace('_', ' ')}: {what}")
            if not report.intact:
                raise InputError(
                    f"{options.gallery}: {len(report.bad_vectors)} entries are damaged; index them again"
                )


def run_match(options: argparse.Namespace) -> None:
    """See `kronreid.models.inference.Matcher.explain`."""
    why = load_matcher(options.matcher).explain(options.a, options.b)
    if options.json:
        scales = [
            {
                "height": scale.height,
                "width": scale.width,
                "correspondence": scale.correspondence.tolist(),
                "attention_a": scale.attention_a.tolist(),
                "attention_b": scale.attention_b.tolist(),
            }
            for scale in why.scales
        ]
        write(options.json, to_json({"probability": why.probability, "scales": scales}), "--json")
    if options.png:
        from kronreid.explain import match_figure

        folder_must_exist(options.png, "--png")
        match_figure(why).save(options.png, format="PNG")
    print(f"probability of the same person: {why.probability:.4f}")


def run_summary(options: argparse.Namespace) -> None:
    """See `kronreid.models.summary`."""
    from dataclasses import asdict

    from kronreid.models.storage import load_folder
    from kronreid.models.summary import summarise
    from kronreid.training.config import build_model, read_config

    path = Path(options.model)
    if path.is_dir():
        model, size, _ = load_folder(path)
    else:
        config = read_config(path, ["model.backbone.weights=none"])
        model, size = build_model(config, str(path)), config.input
    summary = summarise(model, size)
    if options.json:
        write(options.json, to_json(asdict(summary)), "--json")
    print(f"{'part':12} {'parameters':>12} {'multiply-adds':>15}  layers")
    for part in summary.parts:
        layers = ", ".join(f"{number} {kind}" for kind, number in part.layers.items())
        print(f"{part.name:12} {part.parameters:12,} {part.multiply_adds:15,}  {layers}")
    print(
        f"{'total':12} {summary.parameters:12,} {summary.multiply_adds:15,}  "
        f"for one {size.height} × {size.width} picture"
    )
    print(f"{'with count sketches as dense matrices':25} {summary.parameters_with_sketches:,}")


def load_model(path: str, option: str) -> "Embedder | Matcher":
    """An embedder or a matcher, or an error that names the option."""
    from kronreid.models.inference import load

    try:
        return load(path)
    except InputError as error:
        raise InputError(f"{option} {error}") from None


def load_matcher(path: str) -> "Matcher":
    """A matcher, or an error that names the option."""
    from kronreid.models.inference import Matcher

    model = load_model(path, "--matcher")
    if not isinstance(model, Matcher):
        raise InputError(f"--matcher {path}: is an embedder; a pair model like KPM is needed")
    return model


def pair(text: str) -> tuple[str, str]:
    """``key=value`` split."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--where {text}: key=value is expected")
    return key, value


def to_json(value: Any) -> str:
    """JSON that people can read; no NaN."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def folder_must_exist(path: Path, option: str, suffix: str | None = None) -> None:
    """Complain before the work is done, not after."""
    if suffix is not None and path.suffix != suffix:
        raise InputError(f"{option} {path}: the name must end in {suffix}")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}")


def write(path: Path, text: str, option: str) -> None:
    """Write a file whole or not at all."""
    folder_must_exist(path, option)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
