"""What an evaluation found, to look at: a table for the terminal, a page or a picture to keep."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kronreid.data.images import open_rgb
from kronreid.errors import InputError
from kronreid.evaluation.evaluate import RankedList, Result

if TYPE_CHECKING:  # matplotlib is imported where it draws: who only evaluates need not wait for it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG = "#1a7f37", "#c62828"
#: how a kind of score is shown: axis label, sign, offset; what is shown is offset + sign * score
SHOWN = {
    "cosine": ("cosine distance", -1, 1),
    "euclidean": ("squared Euclidean distance", -1, 0),
    "k-reciprocal": ("k-reciprocal distance", -1, 0),
    "distance": ("distance", -1, 0),
    "score": ("score", 1, 0),
    "logit": ("logit of the pair model", 1, 0),
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem; text-align: right; }
th { border-bottom: 2px solid #888; } img.plot { max-width: 100%; }
.list { display: flex; flex-wrap: wrap; gap: .4rem; margin-bottom: 1.2rem; }
figure { margin: 0; width: 76px; text-align: center; font-size: .8rem; }
figure img { width: 64px; height: 128px; object-fit: contain; border: 4px solid #777; background: #eee; }
figure.right img { border-color: #1a7f37; } figure.wrong img { border: 4px dashed #c62828; }
"""


def table(results: Result | Mapping[str, Result]) -> str:
    """A text table, one line per result, rates in per cent.

    Args:
        results: one result, or several by name.
    """
    if isinstance(results, Result):
        results = {results.protocol: results}
    head = [
        "",
        "rank-1",
        "rank-5",
        "rank-10",
        "mAP",
        "mAP trapezoid",
        "mINP",
        "queries",
        "gallery",
        "seconds",
    ]
    lines = [head, *([name, *_cells(result)] for name, result in results.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        )
        for line in lines
    ]
    for name, result in results.items():
        if result.queries_without_match:
            text.append(
                f"{name}: {result.queries_without_match} of {result.queries} queries have no match in the "
                "gallery; the rates are over the others"
            )
    return "\n".join(line.rstrip() for line in text)


def write_report(result: Result, dataset: Any, path: str | Path) -> None:
    """Write the CMC curve, the AP histogram, pair distances and the hardest queries as a page or picture.

    Args:
        result: of `evaluate_dataset`, whose ranked lists name the pictures.
        dataset: a `ReIDDataset`; its name is the title.
        path: ends in .html (self-contained) or .png.

    Raises:
        InputError: another ending, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".html":
        content = _page(result, str(dataset.name)).encode()
    elif path.suffix == ".png":
        content = _png(_sheet(result, str(dataset.name)))
    else:
        raise InputError(f"{path}: a report is a page or a picture; let its name end in .html or .png")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def _cells(result: Result) -> list[str]:
    rates = [result.rank1, result.rank5, result.rank10, result.mAP, result.mAP_trapezoid, result.mINP]
    counts = [f"{result.queries:,}", f"{result.gallery:,}", f"{result.seconds:.1f}"]
    return [*(f"{100 * rate:.2f}" for rate in rates), *counts]


def _page(result: Result, title: str) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4), layout="constrained")
    _plots(list(figure.subplots(1, 3)), result)
    head = ["rank-1", "rank-5", "rank-10", "mAP", "mAP trapezoid", "mINP", "queries", "gallery", "seconds"]
    unmatched = (
        f"<p>{result.queries_without_match} queries have no match in the gallery; the rates are over the "
        "others.</p>"
        if result.queries_without_match
        else ""
    )
    lists = "".join(_list_html(one) for one in result.hardest)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}: evaluation</title>
<style>{STYLE}</style></head><body>
<h1>{html.escape(title)}, protocol {html.escape(result.protocol)}</h1>
<table><tr>{"".join(f"<th>{name}</th>" for name in head)}</tr>
<tr>{"".join(f"<td>{cell}</td>" for cell in _cells(result))}</tr></table>{unmatched}
<p><img class="plot" alt="CMC curve, histogram of average precision, positive and negative pairs"
src="data:image/png;base64,{base64.b64encode(_png(figure)).decode()}"></p>
<h2>Hardest queries</h2>
<p>The query, then what was ranked first: ✓ in a solid green frame is right, ✗ in a dashed red one wrong.</p>
{lists}</body></html>
"""


def _list_html(ranked: RankedList) -> str:
    shown = [_figure_html(ranked.query, "", "query")]
    for picture, right in zip(ranked.pictures, ranked.right):
        shown.append(_figure_html(picture, "right" if right else "wrong", "✓" if right else "✗"))
    name = html.escape(Path(str(ranked.query)).name)
    rank = f"{ranked.first_rank:.4g}"
    return (
        f"<h3>{name}: AP {100 * ranked.average_precision:.1f} %, first match at rank {rank}</h3>\n"
        f'<div class="list">{"".join(shown)}</div>\n'
    )


def _figure_html(picture: Any, css: str, mark: str) -> str:
    buffer = io.BytesIO()
    _thumbnail(picture).save(buffer, "JPEG", quality=85)
    name = html.escape(Path(str(picture)).name)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure class="{css}"><img alt="{name}: {css or mark}" title="{name}" '
        f'src="data:image/jpeg;base64,{data}"><figcaption>{mark}</figcaption></figure>'
    )


def _sheet(result: Result, title: str) -> Figure:
    """The three plots above, a row of pictures for each of the hardest queries below."""
    from matplotlib.figure import Figure

    rows = len(result.hardest)
    width = 1 + max((len(one.pictures) for one in result.hardest), default=10)
    figure = Figure(figsize=(14, 4.6 + 1.9 * rows), layout="constrained")
    figure.suptitle(
        f"{title}, {result.protocol}: rank-1 {100 * result.rank1:.2f} %, mAP {100 * result.mAP:.2f} %, "
        f"mINP {100 * result.mINP:.2f} %"
    )
    halves = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.0, max(1.9 * rows, 0.1)])[:, 0]
    _plots(list(halves[0].subplots(1, 3)), result)
    if not rows:
        return figure
    grid = halves[1].subplots(rows, width, squeeze=False)
    for row, ranked in zip(grid, result.hardest):
        marks = ["query", *("✓" if right else "✗" for right in ranked.right)]
        for axes in row:
            axes.set_axis_off()
        for axes, picture, mark in zip(row, [ranked.query, *ranked.pictures], marks):
            _show(axes, picture, mark)
    return figure


def _show(axes: Axes, picture: Any, mark: str) -> None:
    axes.set_axis_on()
    axes.imshow(np.asarray(_thumbnail(picture)))
    axes.set_xticks([])
    axes.set_yticks([])
    colour = {"✓": RIGHT, "✗": WRONG}.get(mark, "#777777")
    axes.set_title(mark, color=colour, fontsize=10, pad=5)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=3, linestyle="--" if mark == "✗" else "-")


def _plots(axes: list[Axes], result: Result) -> None:
    cmc, precision, pairs = axes
    ranks = np.arange(1, len(result.cmc) + 1)
    cmc.plot(ranks, 100 * result.cmc, marker="o" if len(ranks) < 20 else None)
    cmc.set(title="CMC", xlabel="rank", ylabel="queries matched, %", ylim=(0, 102))
    cmc.grid(alpha=0.3)

    values = result.average_precision[~np.isnan(result.average_precision)]
    precision.hist(100 * values, bins=20, range=(0, 100))
    precision.axvline(100 * result.mAP, color="black", linestyle="--", label=f"mAP {100 * result.mAP:.1f} %")
    precision.set(title="Average precision", xlabel="AP, %", ylabel="queries")
    precision.legend()

    label, sign, offset = SHOWN[result.score_kind]
    positive, negative = offset + sign * result.positive_scores, offset + sign * result.negative_scores
    together = np.concatenate([positive, negative])
    bins = np.linspace(together.min(), together.max() + 1e-6, 61).tolist()
    pairs.hist(positive, bins, density=True, alpha=0.6, color=RIGHT, label="same person")
    pairs.hist(negative, bins, density=True, histtype="step", color=WRONG, label="another person")
    pairs.set(title="Pairs", xlabel=label, ylabel="density")
    pairs.legend()


def _thumbnail(picture: Any) -> Image.Image:
    """At most 64×128; a row number (vectors were evaluated, not pictures) becomes a grey card."""
    if isinstance(picture, int):
        return Image.new("RGB", (64, 128), "#dddddd")
    image = open_rgb(picture)
    image.thumbnail((64, 128))
    return image


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
