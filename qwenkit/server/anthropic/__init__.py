"""Anthropic's Messages API over the same conversations, engine and tools as OpenAI's."""
