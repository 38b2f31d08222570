"""The optional parts: which extra brings which packages, and one line where a package is missing.

``pip install kronreid`` brings what embedding, matching and evaluating need. The rest are extras, like
``pip install 'kronreid[train]'``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from kronreid.errors import InputError

#: The packages of each extra in pyproject.toml, by the names under which they are imported.
EXTRAS = {
    "data": ("h5py", "pyarrow"),
    "figures": ("matplotlib", "jinja2", "markupsafe"),
    "train": ("lightning", "tensorboard"),
    "gallery": ("pymilvus", "grpc", "milvus_lite"),
    "serve": ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client", "cachetools"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "ray": ("ray", "pyarrow"),
    "triton": ("triton",),
}


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn a failed import of an extra's package into one line that says how to install it.

    Any other failed import keeps its traceback: of our own modules, of a package that no extra brings, and
    of a part that an installed package lacks.

    Args:
        what: What needs the package: a command, an option, a name of the API or a file.

    Raises:
        InputError: A package of an extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
        if extra is None or _is_installed(package):
            raise
        raise _missing(what, package, extra) from None


def require(what: str, *extras: str) -> None:
    """Complain before the work starts if a package of some extras is missing.

    Args:
        what: What needs them, as in `explained`.
        extras: Names in `EXTRAS`.

    Raises:
        InputError: A package is not installed. The line names all extras of which one is missing.
    """
    missing = {extra: name for extra in extras for name in reversed(EXTRAS[extra]) if not _is_installed(name)}
    if missing:
        raise _missing(what, next(iter(missing.values())), ",".join(missing))


def _missing(what: str, package: str, extras: str) -> InputError:
    name = f"kronreid[{extras}]"
    return InputError(f"{what} needs the packages of {name} ({package} is missing)", f"pip install '{name}'")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:  # of a finder that keeps it out
        return False
