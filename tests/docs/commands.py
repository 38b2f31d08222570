"""Commands as documents write them: those that run as they stand, and those that show what may be given.

The latter, a synopsis, has ``[--option]`` in brackets, dots (``...`` or ``…``) or a word in capitals that
stands for something to be named (``ROOT``). Everything else has to run.
"""

import argparse
import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

from kronreid.cli import make_parser

PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)?|X,Y|(key|section\.key)=value")
#: In a command: no variable ($NAME), no assignment (NAME=…), no method of curl (-X DELETE).
TO_BE_NAMED = re.compile(r"(?<![\w$/.-])(?<!-X )[A-Z][A-Z0-9_]*(?![\w=-])")


def code(text: str) -> str:
    """Shell text without its comments."""
    return re.sub(r"(^|\s+)#.*$", "", text, flags=re.MULTILINE)


def is_synopsis(text: str) -> bool:
    """Whether shell text shows what may be given; see the head of this file."""
    return any(sign in code(text) for sign in ("[--", "...", "…")) or bool(TO_BE_NAMED.search(code(text)))


def lines(text: str) -> list[str]:
    """The commands of shell text; a line that is indented goes on with the one before it."""
    joined = re.sub(r"\\?\n[ \t]+", " ", code(text))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def ways(command: str) -> Iterator[list[str]]:
    """The words behind ``kronreid`` with everything given that may be given, once for every ``this|that``."""
    text = re.sub(r"\.\.\.|…|[][]", " ", command)
    words = [word.split("|") for word in shlex.split(text)]
    start = next(i for i, word in enumerate(words) if re.fullmatch(r"(.*/)?kronreid", word[0]))
    yield from (list(way) for way in itertools.product(*words[start + 1 :]))


class _Choices(list):
    """What may be chosen, or a word in capitals for it."""

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or bool(PLACEHOLDER.fullmatch(str(value)))


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


@cache
def reading(fragments: bool = False) -> argparse.ArgumentParser:
    """The command line's own parser, which also takes words in capitals for any value.

    Args:
        fragments: Take commands in prose, too, which leave out what does not matter there: anything that is
            required, and the value of an option.
    """
    parser = make_parser()
    for sub in parsers(parser):
        for action in sub._actions:
            if isinstance(action, argparse._SubParsersAction):
                continue
            action.type = _or_placeholder(action.type)
            if action.choices is not None:
                action.choices = _Choices(action.choices)
            if fragments:
                action.required = False
                if action.nargs is None or action.nargs == "+":
                    action.nargs = "?" if action.nargs is None else "*"
    return parser


def _or_placeholder(convert: Any) -> Any:
    return lambda text: text if PLACEHOLDER.fullmatch(text) or convert is None else convert(text)


@cache
def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands that do something, by their words: ``train``, ``data check``."""
    found = {sub.prog.partition(" ")[2]: sub for sub in parsers(make_parser())}
    return {
        name: sub
        for name, sub in found.items()
        if not any(other.startswith(f"{name} ") for other in found) and name
    }


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The options that its ``--help`` names."""
    return {name for action in parser._actions for name in action.option_strings} - {"-h", "--help"}
