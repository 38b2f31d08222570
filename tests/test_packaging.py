"""What the package holds and needs: the wheel's files, the declared dependencies, the base without extras."""

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, PathDistribution, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kronreid.extras import EXTRAS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
#: The extras that modules may import packages of at their head, themselves or by what they import; the
#: longest name that fits counts. All other modules make do with the base.
NEEDS: dict[str, tuple[str, ...]] = {
    "kronreid": (),
    "kronreid.data.lists.parquet": ("data",),
    "kronreid.ops.matching_triton": ("triton",),
    "kronreid.ops.places_triton": ("triton",),
    "kronreid.training.callbacks": ("train",),
    "kronreid.training.hard": ("train",),
    "kronreid.training.modules": ("train",),
    "kronreid.training.train": ("train",),
    "kronreid.gallery": ("gallery",),
    "kronreid.gallery.milvus": ("gallery", "milvus"),
    "kronreid.gallery.milvus_connection": ("gallery", "milvus"),
    "kronreid.gallery.spread": ("gallery", "ray"),
    "kronreid.cameras.sources": ("video",),
    "kronreid.cameras.tracking": ("video",),
    "kronreid.cameras.looks": ("video",),
    "kronreid.cameras.moments": ("video",),
    "kronreid.cameras.status": ("gallery", "video"),
    "kronreid.cameras.tracks": ("video",),
    "kronreid.cameras.drawing": ("video",),
    "kronreid.cameras.tracklets": ("gallery", "video"),
    "kronreid.cameras.pipeline": ("gallery", "video"),
    "kronreid.cameras.truth": ("gallery",),
    "kronreid.cameras.detectors.hub": ("video",),
    "kronreid.cameras.detectors.motion": ("video",),
    "kronreid.cameras.detectors.onnx": ("video",),
    "kronreid.explain": ("figures",),
    "kronreid.explain.pages.search": ("figures", "gallery"),
    "kronreid.serve": ("figures", "gallery", "serve"),
    "kronreid.serve.client": (),
    "kronreid.serve.connection": (),
    "kronreid.serve.people_schemas": (),
    "kronreid.serve.files": (),
    "kronreid.serve.marks": (),
    "kronreid.serve.schemas": (),
    "kronreid.demo": ("figures", "gallery", "train", "video"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, so that nothing is left beside the source and no earlier build gets into it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(SOURCE, folder / "src", ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder / "dist"]
    run_pip("wheel", *options, folder)
    (file,) = (folder / "dist").iterdir()
    return file


def run_pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def requirements(wheel: Path) -> list[Requirement]:
    """What the wheel says that it needs."""
    with zipfile.ZipFile(wheel) as file:
        (info,) = {name.split("/")[0] for name in file.namelist() if ".dist-info/" in name}
        needed = PathDistribution(zipfile.Path(file, f"{info}/")).requires
    return [Requirement(text) for text in needed or []]


def declared(requirements: list[Requirement], *extras: str) -> dict[str, Requirement]:
    """What extras need on Linux, by name, and "" the base; without what their extras of kronreid need."""
    found = {}
    for extra in extras:
        environment = {"extra": extra, "sys_platform": "linux"}
        for one in requirements:
            always = one.marker is None or one.marker.evaluate(environment | {"extra": ""})
            if always if not extra else not always and one.marker and one.marker.evaluate(environment):
                found[str(canonicalize_name(one.name))] = one
    return found


# ── the wheel ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        packed = {name for name in file.namelist() if ".dist-info/" not in name}
    source = {path for path in (SOURCE / "kronreid").rglob("*") if path.is_file()}
    assert packed == {
        path.relative_to(SOURCE).as_posix() for path in source if "__pycache__" not in path.parts
    }
    assert {
        "kronreid/py.typed",
        "kronreid/papers/horeid.yaml",
        "kronreid/papers/kpm.yaml",
        "kronreid/explain/pages/base.html",
        "kronreid/explain/pages/style.css",
        "kronreid/serve/page/index.html",
        "kronreid/serve/page/app.js",
        "kronreid/serve/page/base.css",
    } <= packed


# ── what is imported, and what is declared ──────────────────────────────────────────────────────────────


@functools.cache
def distributions() -> dict[str, set[str]]:
    """The names of the distributions that bring a package, by the name under which it is imported."""
    brought = packages_distributions()
    return {package: {str(canonicalize_name(name)) for name in names} for package, names in brought.items()}


def brought_by(package: str) -> set[str]:
    return distributions().get(package, {str(canonicalize_name(package))})


@functools.cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """(name, whether it is imported with the module) of all that a file imports."""

    def visit(node: ast.AST, at_head: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_head) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
                yield child.module, at_head
                yield from ((f"{child.module}.{alias.name}", at_head) for alias in child.names)
            elif isinstance(child, ast.Call) and names_it(child.func, "importlib", "import_module"):
                yield from ((one.value, False) for one in child.args if isinstance(one, ast.Constant))
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and names_it(child.test, "TYPE_CHECKING")
            yield from visit(child, at_head and not later and not typing)

    return tuple(visit(ast.parse(path.read_text(encoding="utf-8")), True))


def names_it(node: ast.AST, *parts: str) -> bool:
    """Whether an expression is a name, or an attribute of one; `ast.unparse` would take most of the time."""
    if len(parts) == 1:
        return isinstance(node, ast.Name) and node.id == parts[0]
    return isinstance(node, ast.Attribute) and node.attr == parts[-1] and names_it(node.value, *parts[:-1])


def is_third_party(name: str) -> bool:
    return name.partition(".")[0] not in {*sys.stdlib_module_names, "kronreid"}


@functools.cache
def modules() -> dict[str, Path]:
    found = {}
    for path in (SOURCE / "kronreid").rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def imported_with(module: str) -> frozenset[str]:
    """All modules that are imported with one of ours, and the packages of others."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parents = name.split(".")
        for one in (".".join(parents[:count]) for count in range(1, len(parents) + 1)):
            if one in modules() and one not in found:
                found.add(one)
                waiting += [name for name, at_head in imports(modules()[one]) if at_head]
        if is_third_party(name):
            found.add(parents[0])
    return frozenset(found)


def needs_of(module: str) -> tuple[str, ...]:
    return NEEDS[max((name for name in NEEDS if f"{module}.".startswith(f"{name}.")), key=len)]


@pytest.mark.parametrize("folder", ["src", "benchmarks", "tests", "docs/site"])
def test_what_is_imported_is_declared(folder: str, requirements: list[Requirement]) -> None:
    extras = ["", *EXTRAS] if folder == "src" else ["", *EXTRAS, "docs", "test"]
    known = declared(requirements, *extras)
    ours = {"tests", *(path.stem for path in (ROOT / folder).rglob("*.py"))}
    ours |= {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    missing = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in (ROOT / folder).rglob("*.py")
        for name in {name.partition(".")[0] for name, _ in imports(path) if is_third_party(name)}
        - {"tests", *ours}
        if not brought_by(name) & known.keys()
    }
    assert not missing


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_imports_only_what_its_extras_bring(module: str, requirements: list[Requirement]) -> None:
    known = declared(requirements, "", *needs_of(module)).keys()
    packages = {name for name in imported_with(module) if is_third_party(name)}
    assert {name for name in packages if not brought_by(name) & known} == set()


@pytest.mark.parametrize("module", ["kronreid", "kronreid.cli"])
def test_these_are_imported_quickly(module: str) -> None:
    assert {name for name in imported_with(module) if is_third_party(name)} == set()


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_of_extras_is_the_declared_one(extra: str, requirements: list[Requirement]) -> None:
    names = declared(requirements, extra).keys() - {"kronreid"}
    assert {name for package in EXTRAS[extra] for name in brought_by(package)} == names


def test_all_is_everything_for_users(requirements: list[Requirement]) -> None:
    assert declared(requirements, "all")["kronreid"].extras == set(EXTRAS)
    assert declared(requirements, "test")["kronreid"].extras == {"all", "docs"}


# ── the base alone ──────────────────────────────────────────────────────────────────────────────────────


def needed(requirements: list[Requirement]) -> dict[str, Distribution]:
    """The installed distributions that these requirements bring, with what those require in turn."""
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(one, "") for one in requirements]
    while waiting:
        one, asker = waiting.pop()
        if one.marker is not None and not one.marker.evaluate({"extra": asker}):
            continue
        name = str(canonicalize_name(one.name))
        found[name] = found.get(name) or distribution(name)
        for extra in {"", *one.extras} - {extra for known, extra in done if known == name}:
            done.add((name, extra))
            waiting += [(Requirement(text), extra) for text in found[name].requires or []]
    return found


@pytest.fixture(scope="module")
def base(wheel: Path, requirements: list[Requirement], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that has the wheel and what the base needs, and nothing else.

    The packages of the base are links to those that are installed here. pip looks at what they say of
    themselves, has no index and would fail if something that the wheel requires were missing.
    """
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for one in needed(requirements).values():
        for top in {file.parts[0] for file in one.files or []} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(one.locate_file(top))))
    python = folder / "bin" / "python"
    run_pip("--python", python, "install", "--no-index", "--quiet", wheel)
    return python


SCRIPT = """
import contextlib, importlib, io, json, sys
import kronreid
from kronreid.cli import main

modules, home, data = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
answers = {"file": kronreid.__file__}
for name in modules:
    importlib.import_module(name)

picture = sys.argv[4]
vectors = kronreid.load(f"{home}/horeid").embed([picture, picture])
answers["vectors"] = vectors.tolist()
answers["scores"] = kronreid.load(f"{home}/kpm").score([picture], [picture]).tolist()

def run(*arguments):
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        return main([str(one) for one in arguments]), errors.getvalue()

model, matcher = f"{home}/horeid", f"{home}/kpm"
evaluate = "evaluate", model, "--data", data
answers["works"] = {" ".join(line[:2]): run(*line) for line in (
    (*evaluate, "--matcher", matcher, "--json", f"{home}/figures.json"),
    ("match", picture, picture, "--model", matcher),
    ("summary", model),
    ("papers", "--rows"),
    ("data", "check", data),
)}
row = "horeid/market1501/gap"
answers["missing"] = {name: run(*line) for name, line in {
    "kronreid train": ("train", row, "--data", data, "--out", f"{home}/run"),
    "kronreid demo": ("demo", "--out", f"{home}/demo"),
    "kronreid serve": ("serve", "--gallery", f"{home}/people.gallery"),
    "kronreid index": ("index", picture, "--model", model, "--gallery", f"{home}/people.gallery"),
    "kronreid search": ("search", picture, "--gallery", f"{home}/people.gallery"),
    "kronreid gallery": ("gallery", "info", "--gallery", f"{home}/people.gallery"),
    "kronreid crop": ("crop", picture, "--detector", "motion", "--out", f"{home}/crops"),
    "kronreid figures": ("figures", model, "--data", data, "--out", f"{home}/figures"),
    "--format onnx": ("export", model, "--out", f"{home}/model.onnx"),
    f"MODEL {home}/other.onnx": ("evaluate", f"{home}/other.onnx", "--data", data),
    f"{home}/list.parquet": ("evaluate", model, "--data", f"{home}/list.parquet"),
    f"{home}/cuhk-03.mat": ("data", "extract", home),
    "--png": ("match", picture, picture, "--model", matcher, "--png", f"{home}/why.png"),
    "--html": (*evaluate, "--html", f"{home}/report.html"),
}.items()}
for name in ("Gallery", "train"):
    try:
        getattr(kronreid, name)
    except kronreid.InputError as error:
        answers["missing"][f"kronreid.{name}"] = 2, f"kronreid: error: {error}\\n"
json.dump(answers, sys.stdout)
"""
#: What each needs that the base has not.
MISSING = {
    "kronreid train": ("train", "lightning"),
    "kronreid demo": ("train,gallery,figures,video", "lightning"),
    "kronreid serve": ("serve,gallery,figures", "fastapi"),
    "kronreid index": ("gallery", "cachetools"),
    "kronreid search": ("gallery", "cachetools"),
    "kronreid gallery": ("gallery", "cachetools"),
    "kronreid crop": ("video", "av"),
    "kronreid figures": ("figures", "matplotlib"),
    "--format onnx": ("export", "onnx"),
    "MODEL {home}/other.onnx": ("export", "onnx"),
    "{home}/list.parquet": ("data", "pyarrow"),
    "{home}/cuhk-03.mat": ("data", "h5py"),
    "--png": ("figures", "matplotlib"),
    "--html": ("figures", "matplotlib"),
    "kronreid.Gallery": ("gallery", "cachetools"),
    "kronreid.train": ("train", "lightning"),
}


def test_the_base_alone_embeds_matches_and_evaluates(
    base: Path, pedestrians: Path, save_tiny_models: Callable[[Path], None], tmp_path: Path
) -> None:
    """And each thing that needs an extra says in one line which one."""
    save_tiny_models(tmp_path)
    for name in ("other.onnx", "list.parquet", "cuhk-03.mat"):
        (tmp_path / name).write_bytes(b"something")
    light = [name for name in modules() if not needs_of(name) and not name.endswith("__main__")]
    picture = min((pedestrians / "query").iterdir())
    arguments = [json.dumps(light), str(tmp_path), str(pedestrians), str(picture)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [base, "-c", SCRIPT, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert Path(answers["file"]).is_relative_to(base.parents[1])
    for vector in answers["vectors"]:
        assert sum(one**2 for one in vector) == pytest.approx(1, abs=1e-4)
    assert 0 <= answers["scores"][0][0] <= 1
    assert {name: status for name, (status, _) in answers["works"].items()} == dict.fromkeys(
        [
            "evaluate " + str(tmp_path / "horeid"),
            f"match {picture}",
            f"summary {tmp_path / 'horeid'}",
            "papers --rows",
            "data check",
        ],
        0,
    ), answers["works"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert 0 < figures["mAP"] <= 1
    expected = {name.format(home=tmp_path): missing for name, missing in MISSING.items()}
    assert answers["missing"] == {
        name: [
            2,
            f"kronreid: error: {name} needs the packages of kronreid[{extras}] ({package} is missing): "
            f"pip install 'kronreid[{extras}]'\n",
        ]
        for name, (extras, package) in expected.items()
    }
    assert not (tmp_path / "run").exists()
    command = [base.with_name("kronreid"), "--version"]
    assert subprocess.check_output(command, text=True, env=environment).startswith("kronreid ")
