"""Offers our model to other programs over MCP: tools, documents, prompts."""
