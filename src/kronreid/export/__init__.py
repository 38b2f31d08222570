"""Models for other runtimes: ONNX files that take plain pictures and describe themselves."""

from kronreid.export.onnx import ExportReport, export_onnx

__all__ = ["ExportReport", "export_onnx"]
