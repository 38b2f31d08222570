"""Export of a model to a format of other runtimes, checked against the model before anything is written."""

import copy
import logging
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from kronreid.data.images import ImageLike
from kronreid.errors import InputError
from kronreid.export.comparing import Comparison, ExportReport, compare
from kronreid.export.int8 import quantise
from kronreid.export.onnx import write_onnx
from kronreid.export.openvino import write_openvino
from kronreid.export.program import write_program
from kronreid.export.triton import write_configuration
from kronreid.extras import require
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.loading import wrap
from kronreid.models.onnx import OnnxEmbedder, load_onnx
from kronreid.models.openvino import load_openvino

log = logging.getLogger(__name__)

#: A float32 file is not written if its outputs differ from the model's by more than this.
TOLERANCE = 1e-3
#: The same for probabilities by places. A number of a place that lies on the edge between two of int8's steps
#: is rounded to either of them.
PLACES_TOLERANCE = 1e-2
#: An int8 file is not written if the mean cosine of its vectors to the model's is below this.
INT8_COSINE = 0.95
#: The most pictures that calibrate an int8 file, the most that it is compared on, and the fewest of both.
_CALIBRATED, _COMPARED, _FEWEST = 256, 64, 8


@dataclass(frozen=True)
class _Written:
    """Files of an export that are not yet in their place.

    Attributes:
        files: The files, below the folder that `_Format.write` got.
        embedder: Them, opened: what is compared with the model.
        scorer: The file with the scorer of a matcher.
    """

    files: list[Path]
    embedder: Embedder
    scorer: Path | None = None


@dataclass(frozen=True)
class _Format:
    """A format.

    Attributes:
        write: Writes the files of a model to a path, given pictures for calibration.
        suffix: How the name of the output ends; empty for a folder.
        extras: The extras with the packages that it needs.
        pairs: Whether it takes a matcher.
        int8: Whether it needs pictures for calibration.
    """

    write: Callable[[Embedder | Matcher, Path, Sequence[Image.Image]], _Written]
    suffix: str
    extras: tuple[str, ...] = ("export",)
    pairs: bool = False
    int8: bool = False


def _onnx(tool: Embedder | Matcher, place: Path, _: Sequence[Image.Image]) -> _Written:
    files = write_onnx(tool, place)
    return _Written(files, load_onnx(files[0], device="cpu"), *files[1:])


def _onnx_int8(tool: Embedder | Matcher, place: Path, pictures: Sequence[Image.Image]) -> _Written:
    graph = place.with_suffix(".float.onnx")
    write_onnx(tool, graph)
    quantise(graph, place, pictures)
    return _Written([place], load_onnx(place, device="cpu"))


def _openvino(tool: Embedder | Matcher, place: Path, pictures: Sequence[Image.Image]) -> _Written:
    graph = place.with_suffix(".onnx")
    if pictures:
        _onnx_int8(tool, graph, pictures)
    else:
        write_onnx(tool, graph)
    return _Written(write_openvino(graph, place), load_openvino(place))


def _program(tool: Embedder | Matcher, place: Path, _: Sequence[Image.Image]) -> _Written:
    return _Written([place], write_program(tool, place))


def _triton(tool: Embedder | Matcher, place: Path, _: Sequence[Image.Image]) -> _Written:
    name = tool.path.name if tool.path else "model"
    model = place / name / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    graphs = write_onnx(tool, model)
    files = []
    for graph, suffix in zip(graphs, ("", "-scorer")):
        target = place / f"{name}{suffix}" / "1" / "model.onnx"
        target.parent.mkdir(parents=True, exist_ok=True)
        graph.replace(target)
        files += [write_configuration(target), target]
    return _Written(files, load_onnx(files[1], device="cpu"), *files[3:])


#: The formats by name, as ``--format`` takes them.
FORMATS = {
    "onnx": _Format(_onnx, ".onnx", pairs=True),
    "onnx-int8": _Format(_onnx_int8, ".onnx", int8=True),
    "openvino": _Format(_openvino, ".xml", ("export", "openvino")),
    "openvino-int8": _Format(_openvino, ".xml", ("export", "openvino"), int8=True),
    "pt2": _Format(_program, ".pt2", ()),
    "triton": _Format(_triton, "", pairs=True),
}


def export(
    tool: Embedder | Matcher,
    out: str | Path,
    form: str = "onnx",
    calibrate: Sequence[ImageLike] = (),
    progress: bool = False,
) -> ExportReport:
    """Export a model to a format of other runtimes.

    An embedder becomes one graph, ``images`` → ``vectors``. Beside them it has the projected maps of the
    embedder's places, if there are any, with which `kronreid.load` re-ranks. A matcher becomes two graphs:
    `out`, ``images`` → ``pooled`` and each scale's maps, and ``NAME.scorer.onnx`` beside it, maps of queries
    and candidates → ``logits`` (Q, G). All accept any number of pictures. Files are only written, and old
    ones replaced, after they were compared with the model.

    Args:
        tool: A model loaded by `kronreid.load`.
        out: The output file, or the folder of a model repository (``triton``).
        form: The format, one of `FORMATS`.
        calibrate: Pictures as the model will see them, of which ``onnx-int8`` and ``openvino-int8`` take the
            ranges of numbers. Some are left out and used for the comparison.
        progress: Show a progress bar.

    Raises:
        InputError: A package is missing, the name is wrong, the model cannot be exported, there are too few
            pictures, or the outputs differ from the model's.

    Example:
        >>> export(kronreid.load("runs/horeid"), "horeid.onnx").difference
    """
    out, kind = Path(out), FORMATS[form]
    if isinstance(tool, OnnxEmbedder):
        raise InputError(tool.path, "is an exported file already; export the model that it was made of")
    if isinstance(tool, Matcher) and not kind.pairs:
        pairs = ", ".join(name for name, one in FORMATS.items() if one.pairs)
        raise InputError(f"--format {form}", f"takes embedders only; a matcher becomes one of {pairs}")
    if kind.suffix and out.suffix != kind.suffix:
        raise InputError(out, f"the name must end in {kind.suffix}")
    if not out.parent.is_dir() or (not kind.suffix and out.is_file()):
        raise InputError(out, f"there is no folder {out if out.is_file() else out.parent}")
    require(f"--format {form}", *kind.extras)
    reference = wrap(copy.deepcopy(tool.model).cpu(), tool.input)
    if isinstance(reference, Embedder) and isinstance(tool, Embedder):
        reference.places = tool.places
    measured, seen = _split(reference, calibrate) if kind.int8 else ([], [])
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder,
        tqdm(total=2, desc="exporting", disable=None if progress else True) as bar,
    ):
        written = kind.write(tool, Path(folder) / out.name, measured)
        bar.update()
        found = compare(reference, written.embedder, written.scorer, seen)
        bar.update()
        _check(found, out, kind.int8)
        files = []
        for new in written.files:
            files.append(out.parent / new.relative_to(folder))
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            new.replace(files[-1])
    return ExportReport(**asdict(found), files=tuple(files))


def _split(
    reference: Embedder | Matcher, pictures: Sequence[ImageLike]
) -> tuple[list[Image.Image], list[Image.Image]]:
    """Pictures at the network's size, to calibrate on and to compare on. Unreadable ones are left out."""
    chosen = random.Random(0).sample(list(pictures), min(len(pictures), _CALIBRATED + _COMPARED))
    usable = []
    for picture in chosen:
        try:
            usable.append(reference.as_seen(picture))
        except InputError as error:
            log.warning("--calibrate: %s; it is left out", error)
    if len(usable) < _FEWEST:
        raise InputError("--calibrate", f"{len(usable)} readable pictures; give at least {_FEWEST}")
    compared = min(_COMPARED, len(usable) // 4)
    return usable[compared:], usable[:compared]


def _check(found: Comparison, out: Path, int8: bool) -> None:
    """Refuse files that differ too much from the model."""
    if int8 and not found.cosine >= INT8_COSINE:
        raise InputError(
            out,
            f"was not written: the mean cosine between its vectors and the model's is {found.cosine:.3f} on "
            f"{found.pictures} pictures, below {INT8_COSINE}; calibrate on more pictures, or export float32",
        )
    limits = (("outputs", found.difference, TOLERANCE), ("places' scores", found.places, PLACES_TOLERANCE))
    for what, difference, most in limits:
        if not int8 and not difference <= most:
            raise InputError(
                out,
                f"was not written: its {what} differ from the model's by {difference:.2g}, more than {most}; "
                "the backbone cannot be exported",
            )
