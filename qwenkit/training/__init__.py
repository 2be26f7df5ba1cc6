"""Teaches models: fine-tuning, and the recipe of the embedded demo model."""
