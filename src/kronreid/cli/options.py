"""What several commands share: options, opening models and writing files."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronreid.errors import InputError

if TYPE_CHECKING:
    from kronreid.gallery import Selection
    from kronreid.models.inference import Embedder, Matcher

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

MATCHER_WEIGHT = "the weight of its score in the new order, 0 to 1 (0.5 with an embedder, 1 alone)"


def add_command(commands: "Commands", name: str, run: Any, text: str) -> argparse.ArgumentParser:
    """Add a command with its help text and the function that runs it. Every command takes plug-ins."""
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
    """Add the option that chooses boxes of COCO and MOT."""
    parser.add_argument(
        "--category",
        nargs="+",
        default=[],
        metavar="NAME",
        help="which categories of COCO and classes of MOT to take, by name or number (people)",
    )


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a data set's layout."""
    parser.add_argument(
        "--layout", metavar="NAME", help="the data set's layout, see docs/datasets.md (detected)"
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses a split of a data set."""
    parser.add_argument("--split", type=int, default=0, metavar="N", help="which of CUHK03's 20 splits (0)")


def add_split_or_all(parser: argparse.ArgumentParser, help: str) -> None:
    """Add the option that chooses a split of a data set, or all of them: an int, "all" or None."""
    parser.add_argument("--split", type=_split_or_all, metavar="N|all", help=help)


def _split_or_all(text: str) -> int | str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 0 is expected, or all")
    return text if text == "all" else int(text)


def add_set(parser: argparse._ActionsContainer, text: str) -> None:
    """Add the option ``--set key=value ...``, which may be repeated; `text` is its help."""
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="key=value", help=text)


def add_description(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that describes pictures."""
    add_set(
        parser,
        f"{what}: camera, time, identity, source, or any other attribute; "
        "nothing after the = means that it is unknown",
    )


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add the option that changes a config's options; the command reads the config with ``options.set``."""
    add_set(parser, "change the config's options, like training.iterations=200")


def add_gallery(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the option that names a gallery."""
    parser.add_argument(
        "--gallery",
        required=required,
        metavar="URI",
        help="a folder, s3://bucket/name of an object store, or http://host:port of a Milvus server",
    )


def add_login(parser: argparse.ArgumentParser) -> None:
    """Add the options that a gallery on a server may need besides its address."""
    parser.add_argument(
        "--token",
        default="",
        metavar="USER:PASSWORD",
        help="credentials for a server; better set MILVUS_TOKEN in the environment, which no other user sees",
    )
    parser.add_argument(
        "--collection", default="people", metavar="NAME", help="which gallery of a server (people)"
    )


def login(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_login`, as `kronreid.Gallery` takes them."""
    return {"token": options.token, "collection": options.collection}


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose pictures of a gallery."""
    parser.add_argument(
        "--camera", nargs="+", action="extend", help='only these cameras; "" for pictures without one'
    )
    parser.add_argument(
        "--since", metavar="TIME", help="only pictures taken at this time or later, like 2026-03-01T12:00"
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        help="only pictures taken at this time or earlier; a date includes the whole day",
    )
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        help="only pictures with these values: camera, identity, source, or any attribute; "
        "nothing after the = means that it is unknown; 'track>=10' compares (quote it for the shell)",
    )


def selection_of(options: argparse.Namespace) -> "Selection":
    """The options of `add_filters`, as the gallery takes them."""
    from kronreid.gallery import Selection
    from kronreid.gallery.filters import conditions_of

    where = conditions_of(options.where, "--where")
    return Selection(camera=options.camera, since=options.since, until=options.until, where=where)


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number above 0 is expected")
    return int(text)


def count(text: str) -> int:
    """A whole number, 0 or more."""
    return 0 if text == "0" else positive(text)


def count_or_all(text: str) -> int | str:
    """A whole number, 0 or more, or the word all."""
    return text if text == "all" else count(text)


def similarity(text: str) -> float | str:
    """A cosine from -1 to 1, or the word auto."""
    try:
        if text == "auto" or -1 <= float(text) <= 1:
            return text if text == "auto" else float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: a number from -1 to 1, or auto, is expected")


def load_model(path: str, option: str) -> "Embedder | Matcher":
    """Load an embedder or a matcher, or raise an error that names the option."""
    from kronreid.models.loading import load

    try:
        return load(path)
    except InputError as error:
        raise InputError(f"{option} {error.where}".rstrip(), error.what) from None


def load_matcher(path: str) -> "Matcher":
    """Load a matcher, or raise an error that names the option."""
    from kronreid.models.inference import Matcher

    model = load_model(path, "--matcher")
    if not isinstance(model, Matcher):
        raise InputError(f"--matcher {path}", "is an embedder; a pair model like KPM is needed")
    return model


def to_json(value: Any) -> str:
    """Readable JSON, without NaN."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def folder_must_exist(path: Path, option: str, suffix: str | None = None) -> None:
    """Check that a file can be written, before the work starts."""
    if suffix is not None and path.suffix != suffix:
        raise InputError(f"{option} {path}", f"the name must end in {suffix}")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}", f"there is no folder {path.parent}")


def write(path: Path, text: str, option: str) -> None:
    """Write a file whole or not at all."""
    folder_must_exist(path, option)
    new = path.with_name(f".{path.name}.new")
    # A byte of a file's name that is not UTF-8 becomes an escape of JSON.
    new.write_text(text, encoding="utf-8", errors="backslashreplace")
    new.replace(path)


def add_blur(sub: argparse.ArgumentParser, whom: str, identifiers: str) -> None:
    """Add ``--blur`` and ``--show``; see `check_shown`.

    Args:
        sub: The command's parser.
        whom: Who can be made unrecognisable.
        identifiers: Whose identifiers ``--show`` takes.
    """
    sub.add_argument(
        "--blur",
        choices=("nobody", "others", "all"),
        default="nobody",
        help=f"make {whom} unrecognisable: all, or others than those of --show (nobody)",
    )
    sub.add_argument(
        "--show",
        nargs="+",
        default=[],
        metavar="ID",
        help=f"whom --blur others shows: the first digits of identifiers of {identifiers}",
    )


def check_shown(options: argparse.Namespace) -> None:
    """Check the options of `add_blur`.

    Raises:
        InputError: ``--show`` and ``--blur`` do not belong together, or an identifier is impossible.
    """
    if bool(options.show) != (options.blur == "others"):
        raise InputError("--show", "names whom --blur others shows, and belongs to it")
    for beginning in options.show:
        if not beginning or beginning.strip("0123456789abcdef"):
            raise InputError(f"--show {beginning}", "the first digits of an identifier expected")
