"""`/agent`: the LangGraph server protocol over qwenkit's own agent, for LangGraph's clients."""
