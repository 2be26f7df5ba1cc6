"""Judged answers become rows to train with. Knows the log's index; no model, no torch."""
