"""The HTTP server: OpenAI's API, tokens, health and metrics over one loaded model."""
