"""The two papers' tables, and what has been measured here beside them."""

from kronreid.papers.compare import Cell, Comparison, Elsewhere, Measured, compare, without_row
from kronreid.papers.render import to_text, to_values
from kronreid.papers.tables import Column, Paper, Row, Table, papers

__all__ = [
    "Cell",
    "Column",
    "Comparison",
    "Elsewhere",
    "Measured",
    "Paper",
    "Row",
    "Table",
    "compare",
    "papers",
    "to_text",
    "to_values",
    "without_row",
]
