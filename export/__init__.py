"""Floor 3: from an nn.Module or ONNX file to ONNX that a target's TensorRT reads, and to an engine."""
