"""Configurations of editors that talk to a qwenkit server."""
