"""Weights on disk: where they are and what they are. Knows no engine, no chat and no settings."""
