"""Pictures of what the models do: why two pictures match, ranked lists, the demonstration's page."""

from kronreid.explain.chart import Chart
from kronreid.explain.lists import part_maps_figure, ranked_list_figure
from kronreid.explain.matches import (
    attention_figure,
    correspondence_figure,
    match_figure,
    match_heat_figure,
    warped_figure,
)
from kronreid.explain.report import Command, DemoReport, Plate, RankedList, write_demo_report

__all__ = [
    "Chart",
    "Command",
    "DemoReport",
    "Plate",
    "RankedList",
    "attention_figure",
    "correspondence_figure",
    "match_figure",
    "match_heat_figure",
    "part_maps_figure",
    "ranked_list_figure",
    "warped_figure",
    "write_demo_report",
]
