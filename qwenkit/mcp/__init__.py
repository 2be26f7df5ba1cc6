"""The Model Context Protocol both ways: others' tools for our model, and our model for others."""
