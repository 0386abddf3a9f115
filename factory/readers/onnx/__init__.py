"""ONNX models as coded layers: the integers of QLinear, QDQ and QONNX graphs, computed exactly, and named."""

from factory.readers.onnx.read import read_onnx as read_onnx
