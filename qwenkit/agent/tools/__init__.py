"""What the agent can do beside talking: tools of its own, of MCP servers, and of LangChain."""
