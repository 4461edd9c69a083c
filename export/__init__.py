"""Floor 3: from an nn.Module or ONNX file to ONNX that a target's TensorRT reads, and to an engine."""

from __future__ import annotations

# "package.module:function" that reads a network of a higher floor's: (folder or name, data, data root) -> Source.
# The front door sets it, since no import may run upward.
NETWORK_READER: str | None = None
