"""Measures how fast text is generated, in this process or by any OpenAI-compatible server."""
