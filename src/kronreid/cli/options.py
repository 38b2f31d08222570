"""What several commands share: their options, the models they open and the files they write."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronreid.errors import InputError

if TYPE_CHECKING:
    from kronreid.models.inference import Embedder, Matcher

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

MATCHER_WEIGHT = "its say in the new order, 0 to 1 (0.5 beside an embedder, 1 alone)"


def add_command(commands: "Commands", name: str, run: Any, text: str) -> argparse.ArgumentParser:
    """A command of the line, its help text, and the function that runs it. Every command takes plug-ins."""
    sub = commands.add_parser(name, help=text, description=text)
    sub.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module or .py file first, which adds losses, models, layouts or protocols; see "
        "docs/extending.md (repeatable)",
    )
    sub.set_defaults(run=run, prog=sub.prog)
    return sub


def add_categories(parser: argparse.ArgumentParser) -> None:
    """The option that chooses boxes of COCO and MOT."""
    parser.add_argument(
        "--category",
        nargs="+",
        default=[],
        metavar="NAME",
        help="which categories of COCO and classes of MOT to take, by name or number (those that are people)",
    )


def add_layout(parser: argparse.ArgumentParser) -> None:
    """The option that says how a data set is laid out."""
    parser.add_argument("--layout", metavar="NAME", help="how it is laid out, see docs/datasets.md (looks)")


def add_split(parser: argparse.ArgumentParser) -> None:
    """The option that chooses a division of a data set."""
    parser.add_argument(
        "--split", type=int, default=0, metavar="N", help="which of CUHK03's 20 divisions (0)"
    )


def add_set(parser: argparse.ArgumentParser, text: str) -> None:
    """The option ``--set key=value ...``, which may be repeated; `text` is its help."""
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="key=value", help=text)


def add_changes(parser: argparse.ArgumentParser) -> None:
    """The option that changes a config's options; the command reads the config with ``options.set``."""
    add_set(parser, "change the config's options, like training.iterations=200")


def add_gallery(parser: argparse.ArgumentParser) -> None:
    """The option that names a gallery."""
    parser.add_argument(
        "--gallery", required=True, metavar="URI", help="a file, or http://host:port of a server"
    )


def add_login(parser: argparse.ArgumentParser) -> None:
    """The options that a server's gallery may need besides its address."""
    parser.add_argument(
        "--token",
        default="",
        metavar="USER:PASSWORD",
        help="credentials for a server; better given as MILVUS_TOKEN in the environment, which nobody sees",
    )
    parser.add_argument(
        "--collection", default="people", metavar="NAME", help="which gallery of a server (people)"
    )


def login(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_login` was given, as `kronreid.Gallery` takes it."""
    return {"token": options.token, "collection": options.collection}


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The options that choose pictures of a gallery."""
    parser.add_argument(
        "--camera", nargs="+", action="extend", help='only these cameras; "" for pictures without one'
    )
    parser.add_argument(
        "--since", metavar="TIME", help="only pictures taken then or later, like 2026-03-01T12:00"
    )
    parser.add_argument("--until", metavar="TIME", help="only pictures taken then or earlier")
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        help="only pictures with these values: camera, identity, source, or any attribute; "
        "nothing after the = means that it is not known",
    )


def filters(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_filters` was given, as the gallery takes it."""
    from kronreid.data.values import pairs

    where = pairs(options.where, "--where")
    return {"camera": options.camera, "since": options.since, "until": options.until, "where": where}


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number above 0 is expected")
    return int(text)


def count_or_all(text: str) -> int | str:
    """A whole number above 0, or the word all."""
    return text if text == "all" else positive(text)


def load_model(path: str, option: str) -> "Embedder | Matcher":
    """An embedder or a matcher, or an error that names the option."""
    from kronreid.models.loading import load

    try:
        return load(path)
    except InputError as error:
        raise InputError(f"{option} {error.where}".rstrip(), error.what) from None


def load_matcher(path: str) -> "Matcher":
    """A matcher, or an error that names the option."""
    from kronreid.models.inference import Matcher

    model = load_model(path, "--matcher")
    if not isinstance(model, Matcher):
        raise InputError(f"--matcher {path}", "is an embedder; a pair model like KPM is needed")
    return model


def to_json(value: Any) -> str:
    """JSON that people can read; no NaN."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def folder_must_exist(path: Path, option: str, suffix: str | None = None) -> None:
    """Complain before the work is done, not after."""
    if suffix is not None and path.suffix != suffix:
        raise InputError(f"{option} {path}", f"the name must end in {suffix}")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}", f"there is no folder {path.parent}")


def write(path: Path, text: str, option: str) -> None:
    """Write a file whole or not at all."""
    folder_must_exist(path, option)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
