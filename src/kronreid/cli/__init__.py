"""The command line, one module per command: it parses the options, calls the other packages and prints.

A command imports what it needs when it runs, so that ``--help`` is quick.
"""

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from kronreid import __version__
from kronreid.cli import (
    calibrate,
    convert,
    crop,
    data,
    demo,
    evaluate,
    export,
    figures,
    fit_places,
    gallery,
    index,
    match,
    papers,
    push,
    search,
    serve,
    summary,
    track,
    train,
)
from kronreid.errors import InputError
from kronreid.extras import explained
from kronreid.plugins import load_plugins
from kronreid.text import VisibleFormatter, say

COMMANDS = (
    demo,
    data,
    crop,
    train,
    fit_places,
    evaluate,
    calibrate,
    index,
    track,
    search,
    gallery,
    match,
    convert,
    export,
    push,
    serve,
    summary,
    papers,
    figures,
)


class Parser(argparse.ArgumentParser):
    """Reports errors in one line, like all other errors, and names the help of its own command."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Report unknown arguments here; argparse leaves that to the outermost parser."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        raise InputError("", f"{message}; see '{self.prog} --help'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, or 2 after bad input, or 130 after Ctrl-C.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("kronreid").setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):  # file names that are not UTF-8 are printed as they are
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    try:
        options = make_parser().parse_args(arguments)
        load_plugins(options.plugin)
        with explained(options.prog):
            options.run(options)
    except InputError as error:
        say(f"kronreid: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("kronreid: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # "kronreid … | head"
        sys.stderr.close()
        return 0
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(prog="kronreid", description="Find a person again in pictures of people.")
    parser.add_argument("--version", action="version", version=f"kronreid {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser
