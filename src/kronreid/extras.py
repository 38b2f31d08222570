"""Optional dependencies: the packages of each extra, and a one-line error for a missing package.

``pip install kronreid`` installs what embedding, matching and evaluation need. Everything else is an extra,
like ``pip install 'kronreid[train]'``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from kronreid.errors import InputError

#: The packages of each extra in pyproject.toml, by their import names.
EXTRAS = {
    "data": ("h5py", "pyarrow"),
    "figures": ("matplotlib", "jinja2", "markupsafe"),
    "train": ("lightning", "tensorboard"),
    "gallery": ("lancedb", "pyarrow", "cachetools"),
    "milvus": ("pymilvus", "grpc", "milvus_lite"),
    "serve": ("fastapi", "starlette", "uvicorn", "h11", "python_multipart", "prometheus_client"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "ray": ("ray", "pyarrow"),
    "triton": ("triton",),
    "video": ("av", "trackers", "supervision", "cv2", "transformers"),
    "openvino": ("openvino",),
}


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn a failed import of an extra's package into one line that says how to install it.

    All other failed imports keep their traceback: those of our own modules, of packages that belong to no
    extra, and of missing parts of an installed package.

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
    """Check that all packages of some extras are installed, before any work starts.

    Args:
        what: What needs them, as in `explained`.
        extras: Names in `EXTRAS`.

    Raises:
        InputError: A package is not installed. The message names all extras with missing packages.
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
    except ImportError:  # raised by an import hook that blocks it
        return False
