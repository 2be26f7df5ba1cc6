"""qwenkit takes Qwen3-8B through its whole life on one's own machine."""

__version__ = "0.1.0"
