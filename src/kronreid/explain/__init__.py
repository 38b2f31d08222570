"""Figures and HTML pages: why two pictures match, the papers' figures, the reports of demo and evaluation."""

from kronreid.explain.charts import Chart
from kronreid.explain.figures import attention_figure, part_figure
from kronreid.explain.matches import correspondence_figure, match_figure
from kronreid.explain.pages import RankedPictures
from kronreid.explain.pages.demo import (
    Command,
    DemoReport,
    Member,
    Plate,
    StreetReport,
    write_demo_report,
)
from kronreid.explain.pages.evaluation import write_report
from kronreid.explain.places import places_figure
from kronreid.explain.style import save_png

__all__ = [
    "Chart",
    "Command",
    "DemoReport",
    "Member",
    "Plate",
    "RankedPictures",
    "StreetReport",
    "attention_figure",
    "correspondence_figure",
    "match_figure",
    "part_figure",
    "places_figure",
    "save_png",
    "write_demo_report",
    "write_report",
]
