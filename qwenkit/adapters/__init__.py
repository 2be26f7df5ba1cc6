"""LoRA adapters as files: read, checked against a base, converted and merged."""
