"""Conversations become prompts and tokens become answers: all that is particular to Qwen3."""
