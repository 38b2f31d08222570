"""The tables and rows of both papers, and their comparison with measured runs."""

from kronreid.papers.compare import Cell, Comparison, Elsewhere, Measured, compare, label, way, without_row
from kronreid.papers.render import to_text, to_values
from kronreid.papers.rows import row_names, row_options
from kronreid.papers.tables import Column, Paper, Table, TableRow, papers

__all__ = [
    "Cell",
    "Column",
    "Comparison",
    "Elsewhere",
    "Measured",
    "Paper",
    "Table",
    "TableRow",
    "compare",
    "label",
    "papers",
    "row_names",
    "row_options",
    "to_text",
    "to_values",
    "way",
    "without_row",
]
