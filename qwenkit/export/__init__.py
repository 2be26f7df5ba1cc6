"""Safetensors to ONNX Runtime GenAI folders."""
