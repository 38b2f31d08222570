"""Export of models to other runtimes: files that take uint8 pictures and contain their own description."""

from kronreid.export.comparing import ExportReport
from kronreid.export.formats import FORMATS, export

__all__ = ["FORMATS", "ExportReport", "export"]
