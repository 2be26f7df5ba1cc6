"""The agent: a LangGraph graph that calls tools, over any chat model. Knows no HTTP and no pages.

    from qwenkit.agent import build_agent

    agent = build_agent("http://127.0.0.1:8000")
    await agent.ainvoke({"messages": [("user", "What is 17 * 23?")]}, config)

Importing this is cheap; `build_agent` imports LangGraph.
"""

from qwenkit.agent.build import build_agent

__all__ = ["build_agent"]
