"""Finds out what this machine can run: hardware, software, Qwen3-8B. Prints nothing."""
