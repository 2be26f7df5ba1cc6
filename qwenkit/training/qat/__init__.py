"""Quantisation-aware training: a model learns on the very grid that its file will hold."""
