"""The report of an evaluation, as an HTML page or as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from kronreid.data.images import open_rgb
from kronreid.errors import InputError
from kronreid.evaluation import RankedList, Result
from kronreid.explain.charts import EVALUATION, chart_svg
from kronreid.explain.pages import MEASURES, RankedPictures, percent, printable, render
from kronreid.explain.sheet import Block, Tile, TileGroup, axes_at, below, sheet, tile_block, write
from kronreid.explain.style import INK, RULE, TEXT, WIDTH, save_png


def write_report(result: Result, title: str, path: str | Path) -> None:
    """Write the rates, the CMC curve, the AP histogram, the pairs' scores and the hardest queries to a file.

    Args:
        result: A result of `evaluate_dataset`, whose ranked lists name the pictures.
        title: The name of the data set.
        path: A file that ends in .html (a self-contained page) or .png.

    Raises:
        InputError: The file has another suffix, it cannot be written, or a picture cannot be read.
    """
    path = Path(path)
    try:
        if path.suffix == ".html":
            path.write_text(evaluation_page(result, title), encoding="utf-8")
        elif path.suffix == ".png":
            save_png(evaluation_figure(result, title), path)
        else:
            raise InputError(path, "a report is a page or a picture; its name must end in .html or .png")
    except OSError as error:
        raise InputError(path, f"cannot be written ({error.strerror}); choose another path") from None


def evaluation_page(result: Result, title: str) -> str:
    """The report as an HTML page without scripts or external references."""
    lists = [
        RankedPictures(
            query=_picture(one.query),
            hits=[_picture(picture) for picture in one.pictures],
            correct=[bool(right) for right in one.right],
            labels=[""] * len(one.pictures),
            title=_name(one.query),
            caption=_told(one),
            names=[_name(picture) for picture in one.pictures],
        )
        for one in result.hardest
    ]
    charts = {name: chart_svg(draw, result, name, 2.4, 1.7) for name, draw in EVALUATION.items()}
    return render(
        "evaluation.html",
        result=result,
        title=title,
        measures=MEASURES,
        charts=charts,
        lists=lists,
    )


def evaluation_figure(result: Result, title: str) -> Figure:
    """The report as one figure."""
    told = [
        f"{name} {percent(getattr(result, key))} %" for key, name, _ in MEASURES if key != "mAP_trapezoid"
    ]

    def draw(axes: Axes, x: float, y: float) -> None:
        write(axes, x, y + 0.08, printable(f"{title}, {result.protocol}"), TEXT + 2, INK, "left", bold=True)
        write(axes, x + WIDTH, y + 0.08, "   ".join(told), TEXT, INK, "right")
        for number, (name, chart) in enumerate(EVALUATION.items()):
            place = axes_at(axes, x + number * 2.45 + 0.35, y + 0.45, 1.95, 1.3)
            chart(place, result)
            place.set_title(name)

    blocks = [Block(WIDTH, 2.1, draw)]
    if result.hardest:
        rows = [
            [_tile(one.query, "query")]
            + [_tile(each, "right" if right else "wrong") for each, right in zip(one.pictures, one.right)]
            for one in result.hardest
        ]
        groups = [TileGroup("", ["query"]), TileGroup("", [str(n) for n in range(1, max(map(len, rows)))])]
        bands = [(f"{_name(one.query)}: {_told(one)}", 1) for one in result.hardest]
        blocks.append(tile_block(rows, groups, bands, widest=0.62))
    return sheet(below(blocks, 0.1), margin=0.1)


def _told(ranked: RankedList) -> str:
    return f"AP {percent(ranked.average_precision)} %, first match at rank {ranked.first_rank:.4g}"


def _name(picture: Any) -> str:
    return printable(Path(str(picture)).name)


def _picture(picture: Any) -> Image.Image:
    """Open a picture. A row number, from an evaluation of vectors, becomes a grey card."""
    return Image.new("RGB", (64, 128), RULE) if isinstance(picture, int) else open_rgb(picture)


def _tile(picture: Any, part: str) -> Tile:
    return Tile(np.asarray(ImageOps.pad(_picture(picture), (128, 256), color=RULE)), part=part)
