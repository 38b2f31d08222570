"""kronreid finds a person again.

Example::

    import kronreid

    embedder = kronreid.load("runs/horeid")
    vectors = embedder.embed(["a.jpg", "b.jpg"])          # (N, D) float32, L2-normalised
    why = embedder.explain("a.jpg", "b.jpg")              # what each place adds to the verdict
    matcher = kronreid.load("runs/kpm")
    scores = matcher.score("who.jpg", ["a.jpg", "b.jpg"])  # (1, 2) probability of the same person
    why = matcher.explain("who.jpg", "a.jpg")              # correspondences and attention, per scale

The names below are imported on first use, so that ``import kronreid`` and ``kronreid --help`` are fast. If
the packages of a name are not installed, using it raises an `InputError` that names the extra to install.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kronreid.extras import explained

if TYPE_CHECKING:
    from kronreid.data.readers import read
    from kronreid.errors import InputError
    from kronreid.evaluation.evaluate import evaluate
    from kronreid.gallery import Gallery
    from kronreid.models.inference import Embedder, Matcher
    from kronreid.models.loading import load
    from kronreid.serve.client import Client
    from kronreid.training.train import train

_HOME = {
    "Client": "kronreid.serve.client",
    "Embedder": "kronreid.models.inference",
    "Gallery": "kronreid.gallery",
    "InputError": "kronreid.errors",
    "Matcher": "kronreid.models.inference",
    "evaluate": "kronreid.evaluation",
    "load": "kronreid.models.loading",
    "read": "kronreid.data.readers",
    "train": "kronreid.training.train",
}

__version__ = "0.1.0"
__all__ = [
    "Client",
    "Embedder",
    "Gallery",
    "InputError",
    "Matcher",
    "evaluate",
    "load",
    "read",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kronreid' has no attribute {name!r}")
    with explained(f"kronreid.{name}"):
        return getattr(import_module(_HOME[name]), name)
