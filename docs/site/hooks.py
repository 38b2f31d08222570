"""Puts the site together from the repository's documents and its code; MkDocs calls it (see mkdocs.yml).

A page has the path that its document has in the repository, like README.md or docs/models.md. So a relative
link means the same on the site and on a code host. A file or folder that a document links to and that is no
document becomes a page that shows it. The reference is made here too: a page of the commands, and pages of
the code, one for each room.
"""

import argparse
import ast
import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

import kronreid
from kronreid.cli import make_parser

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "kronreid"
#: Documents outside docs/, and where their pages are.
OUTSIDE = {
    "README.md": "index.html",
    "CONTRIBUTING.md": "contributing.html",
    "CHANGELOG.md": "changelog.html",
}
LINK = re.compile(r"\]\(([^)#\s]+)")
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
#: How docstrings are written here, and how the parser of docstrings wants it.
DOCSTRINGS = {r"^Example:$": "Examples:", r"::(?=\n+ )": ":", r"^(Returns|Yields):\n( +)": r"\1:\n\2: "}
NOT_SEARCHED = "---\nsearch: {exclude: true}\n---\n"


class Shown(File):
    """A file or a folder of the repository as a page."""

    def is_documentation_page(self) -> bool:
        return True


def on_config(config: MkDocsConfig) -> None:
    """The rooms' pages join the navigation: a new room needs no entry."""
    pages = next(part["Reference"] for part in config.nav or [] if "Reference" in part)
    pages += [{f"kronreid.{room}": f"api/{room}.md"} for room in rooms()]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Every page of the site, under the path of its document in the repository."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
        if file.src_uri.endswith(".py"):
            continue
        files.append(File(f"docs/{file.src_uri}", str(ROOT), config.site_dir, False, dest_uri=file.dest_uri))
    for name, destination in OUTSIDE.items():
        files.append(File(name, str(ROOT), config.site_dir, False, dest_uri=destination))
    mark = str(PACKAGE / "serve" / "page" / "mark.svg")
    files.append(File.generated(config, "mark.svg", abs_src_path=mark))
    for page in list(files.documentation_pages()):
        for path in linked(page):
            if files.get_file_from_path(path) is None and (ROOT / path).exists():
                files.append(shown(path, config))
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "api/kronreid.md", content=public()))
    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=reference(room)))


def linked(page: File) -> Iterator[str]:
    """The paths in the repository that a document's relative links lead to."""
    for target in LINK.findall(page.content_string):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page.src_uri), target))
        if "://" not in target and not path.startswith(("..", "/")):
            yield path


def shown(path: str, config: MkDocsConfig) -> File:
    """A page with the text of a file, or with the names in a folder. Other files are copied."""
    place = ROOT / path
    if place.is_dir():
        inner = (file.relative_to(place).as_posix() for file in place.rglob("*.*") if file.suffix != ".pyc")
        title, language, text = f"{path}/", "text", "\n".join(sorted(inner))
    elif b"\0" in place.read_bytes():
        return File(path, str(ROOT), config.site_dir, False)
    else:
        title, language, text = path, place.suffix[1:] or "text", place.read_text()
    page = Shown(path, None, config.site_dir, False, inclusion=InclusionLevel.NOT_IN_NAV)
    page.generated_by = "hooks"
    page.content_string = f"{NOT_SEARCHED}# `{title}`\n\n````{language}\n{text}\n````\n"
    return page


def rooms() -> list[str]:
    """The rooms with code to import; the commands have a page of their own."""
    found = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    return sorted(room for room in found if not room.startswith("_") and room != "cli")


def reference(room: str) -> str:
    """A room's page: its modules one after the other."""
    parts = [f"# kronreid.{room}"]
    for path in sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]:
        names = path.relative_to(PACKAGE.parent).with_suffix("").parts
        options: dict[str, object] = {"show_root_heading": len(parts) > 1}
        if names[-1] == "__init__":  # what it gathers from its modules stands there
            own = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, DEFINITIONS)]
            options["members"] = [name for name in own if not name.startswith("_")]
        parts.append(directive(".".join(name for name in names if name != "__init__"), options))
    return "\n\n".join(parts)


def public() -> str:
    """The page of the names that `import kronreid` gives."""
    parts = ["# kronreid", directive("kronreid", {"members": False, "show_root_heading": False})]
    options = {"inherited_members": True, "show_bases": False}
    return "\n\n".join([*parts, *(directive(f"kronreid.{name}", options) for name in kronreid.__all__)])


def directive(name: str, options: dict[str, object]) -> str:
    """What mkdocstrings replaces by the reference of a module, a class or a function."""
    return f"::: {name}\n    options: {json.dumps(options)}"


def commands() -> str:
    """A page of the command line: what `--help` prints."""
    os.environ.update(COLUMNS="90", PYTHON_COLORS="0")
    parts = ["# Commands", "What `kronreid COMMAND --help` prints."]
    for parser in parsers(make_parser()):
        level = "##" if parser.prog.count(" ") == 1 else "###"
        parts.append(f"{level} {parser.prog}\n\n```text\n{parser.format_help()}```")
    return "\n\n".join(parts)


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser's commands, and theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield command
                yield from parsers(command)


class Docstrings(griffe.Extension):
    """What the reference reads from the code, made ready for Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Examples are code, and what is returned is text: what stands before a colon is no type."""
        if obj.docstring:
            for pattern, replacement in DOCSTRINGS.items():
                obj.docstring.value = re.sub(pattern, replacement, obj.docstring.value, flags=re.MULTILINE)

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """`kronreid.evaluate` is the function, not the module of the same name that holds it."""
        self.on_object(obj=pkg)
        for name, member in list(pkg.members.items()):
            if isinstance(member, griffe.Alias) and member.target_path.startswith(f"{pkg.path}."):
                target = member.final_target
                if isinstance(target, griffe.Module) and name in target.members:
                    pkg.set_member(name, griffe.Alias(name, f"{target.path}.{name}", parent=pkg))
