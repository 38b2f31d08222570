"""Export of models to ONNX files that take uint8 pictures and contain their own description."""

from kronreid.export.onnx import ExportReport, export_onnx

__all__ = ["ExportReport", "export_onnx"]
