"""Recurrent layers from ONNX models and to them; needs the package onnx, which the extra fastrnn[onnx] brings."""

try:
    import onnx  # noqa: F401
except ImportError as error:
    raise ImportError("onnx: expected the package of that name, as pip install 'fastrnn[onnx]' brings it, "
                      f"got {error}") from error

from fastrnn.onnx.exporting import export
from fastrnn.onnx.importing import Imported, import_layer

__all__ = ["Imported", "export", "import_layer"]
