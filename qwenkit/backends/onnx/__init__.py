"""ONNX Runtime: exported graphs through a session of its own, or through GenAI's Generator."""
