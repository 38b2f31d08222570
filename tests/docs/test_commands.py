"""Commands that documents and messages only name: the command line takes them, and has what they promise."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from kronreid.cli import make_parser
from kronreid.errors import InputError
from kronreid.papers import row_names

from .commands import PLACEHOLDER, code, commands, is_synopsis, lines, options, parsers, reading, ways
from .markdown import DOCUMENTS, ROOT, Piece, blocks, prose, spans
from .shell import is_row

SYNOPSES = [
    block
    for document in DOCUMENTS
    for block in blocks(document)
    if block.language == "sh" and is_synopsis(block.text)
]
CODE = [span for document in DOCUMENTS for span in spans(document)]
KRONREID = re.compile(r"(\S*/)?kronreid [a-z]|torchrun ")
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
SOURCES = sorted(path for path in (ROOT / "src").rglob("*") if path.suffix in (".py", ".js"))


def parse(command: str, fragments: bool = False) -> None:
    """Have the command line read a command; an error names it."""
    for words in ways(command):
        try:
            reading(fragments).parse_args(words)
        except InputError as error:
            raise AssertionError(f"{command}: {error}") from None


@cache
def benchmark_options(script: Path) -> set[str]:
    """The options that a script of benchmarks/ and the scripts it imports from add."""
    text = script.read_text()
    imported = {path for path in SCRIPTS if re.search(rf"^from {path.stem} import", text, re.MULTILINE)}
    return set(re.findall(r'"(--[a-z-]+)"', text)).union(*map(benchmark_options, imported))


@pytest.mark.parametrize("block", SYNOPSES, ids=str)
def test_what_may_be_given_is_taken(block: Piece) -> None:
    for command in lines(block.text):
        assert command.startswith("kronreid "), f"{block}: {command}"
        parse(command)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_prose_are_taken(document: Path) -> None:
    for span in spans(document):
        if KRONREID.match(span.text):
            parse(re.sub(r"\$\(which (\w+)\)", r"\1", span.text), fragments=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_in_prose_are_some_commands(document: Path) -> None:
    scripts = [script for script in SCRIPTS if script.name in prose(document)]
    for span in spans(document):
        if re.match(r"--\w", span.text):
            words = shlex.split(span.text.replace("…", ""))
            in_scripts = any(
                {word for word in words if word.startswith("--")} <= benchmark_options(script)
                for script in scripts
            )
            assert in_scripts or any(takes(name, words) for name in commands()), span


def takes(command: str, words: list[str]) -> bool:
    """Whether a command takes options."""
    try:
        reading(fragments=True).parse_args([*command.split(), *words])
    except (InputError, SystemExit) as end:  # --help ends with 0
        return getattr(end, "code", 2) == 0
    return True


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_scripts_in_prose_are_there_and_have_the_options(document: Path) -> None:
    for span in spans(document):
        if found := re.match(r"(python )?(benchmarks/\w+\.py)", span.text):
            given = set(re.findall(r"--[a-z-]+", span.text))
            assert given <= benchmark_options(ROOT / found[2]), span


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_show_options_that_they_have(script: Path) -> None:
    documentation = ast.get_docstring(ast.parse(script.read_text())) or ""
    for command in lines(documentation):
        if found := re.match(r"(\w+=\S+ )*python (benchmarks/\w+\.py)", command):
            assert set(re.findall(r"--[a-z-]+", command)) <= benchmark_options(ROOT / found[2]), command


def test_targets_and_extras_are_there() -> None:
    text = "".join(path.read_text() for path in (*DOCUMENTS, *SOURCES))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`", text)) <= targets
    project = (ROOT / "pyproject.toml").read_text()
    for extra in re.findall(r"pip install '?kronreid\[(\w+)\]", text):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_readme_has_every_command_with_what_it_needs() -> None:
    """Its list has every command, what the command requires, and only options that ``--help`` names."""
    (block,) = (block for block in SYNOPSES if block.document.name == "README.md")
    listed: dict[str, set[str]] = {}
    for command in lines(block.text):
        for words in ways(command):
            name = next(name for name in commands() if words[: len(name.split())] == name.split())
            listed.setdefault(name, set()).update(word for word in words if word.startswith("--"))
    assert set(listed) == set(commands())
    for name, parser in commands().items():
        assert listed[name] <= options(parser), name
        needed = {
            action.option_strings[-1]
            for action in parser._actions
            if action.required and action.option_strings
        }
        assert needed <= listed[name], name


def test_the_servers_table_has_every_option() -> None:
    rows = re.findall(r"^\| (`--.*?) \|", prose(ROOT / "docs" / "serve.md"), re.MULTILINE)
    named = {option for row in rows for option in re.findall(r"--[a-z-]+", row)}
    assert named == options(commands()["serve"])


def test_the_containers_commands_are_taken() -> None:
    compose = (ROOT / "compose.yaml").read_text()
    service = yaml.safe_load(compose)["services"]["kronreid"]
    reading().parse_args(service["command"])
    shown = re.sub(r"\\\n#\s*", "", (ROOT / "Dockerfile").read_text()) + compose
    found = re.findall(r"^#.*\b(kronreid (?:index|serve) .*)$", shown, re.MULTILINE)
    assert len(found) == 2
    for command in found:
        parse(command)


def test_the_examples_commands_are_taken() -> None:
    for config in sorted((ROOT / "configs").glob("*.yaml")):
        found = re.findall(r"^# +(kronreid .*)$", config.read_text(), re.MULTILINE)
        assert found, config
        for command in found:
            parse(command)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_rows_in_prose_are_there(document: Path) -> None:
    sets = {name.rpartition("/")[0] for name in row_names()}
    for span in spans(document):
        assert not is_row(span.text) or span.text in {*row_names(), *sets}, span


def names_of_python(text: str) -> Iterator[str]:
    """``kronreid.something.more`` at the start of code."""
    if found := re.match(r"kronreid(\.\w+)+", text):
        yield found[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_of_python_are_there(document: Path) -> None:
    for span in spans(document):
        for name in names_of_python(span.text):
            assert resolve(name), span


def resolve(name: str) -> bool:
    """Whether a dotted name leads to something."""
    first, *rest = name.split(".")
    found: object = importlib.import_module(first)
    for i, part in enumerate(rest, start=2):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(name.split(".")[:i]))
            except ImportError:
                return False
        found = getattr(found, part)
    return True


def messages(source: Path) -> Iterator[tuple[int, str]]:
    """Text in a source file, but no docstrings; VALUE stands for what is put into a text."""
    if source.suffix == ".js":
        lines = enumerate(source.read_text().splitlines(), start=1)
        yield from ((number, line) for number, line in lines if "setProperty" not in line)  # of style sheets
        return
    tree = ast.parse(source.read_text())
    passed_over: set[int] = set()  # docstrings, and what lies within a text with values
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and node.body and isinstance(node.body[0], ast.Expr):
            passed_over.add(id(node.body[0].value))
        elif isinstance(node, ast.JoinedStr):
            passed_over |= {id(part) for part in ast.walk(node)} - {id(node)}
    for node in ast.walk(tree):
        if id(node) in passed_over:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant):
            yield node.lineno, str(node.value)


def test_messages_name_commands_and_options_that_there_are() -> None:
    known = {option for parser in parsers(make_parser()) for option in options(parser)} | {"--help"}
    words = r"(?:--[a-z-]+|[A-Z]+)"
    looked_at = 0
    for source in SOURCES:
        for line, text in messages(source):
            named = set(re.findall(r"(?<![\w-])(?<!var\()--[a-z][a-z-]*", text))
            assert named <= known, f"{source}:{line}: {named - known}"
            for command in re.findall(
                rf"(?:^|run |with |by |and )(kronreid (?:data )?[a-z-]+(?: {words})*)", text
            ):
                parse(command, fragments=True)
                looked_at += 1
    assert looked_at > 5


def test_what_is_looked_at_is_there() -> None:
    """None of these tests looks at nothing."""
    assert len(SYNOPSES) > 3
    assert sum(bool(KRONREID.match(span.text)) for span in CODE) > 10
    assert sum(span.text.startswith("--") for span in CODE) > 30
    assert PLACEHOLDER.fullmatch("FILE.onnx")
    assert not is_synopsis("C=configs K=other\nkronreid evaluate $C/a.yaml -X DELETE  # ROOT\n")
    assert code("kronreid demo   # the whole job\n") == "kronreid demo\n"
