"""Training data: from rows to token ids, and which of them are learned. Needs no torch."""
