"""OpenAI's Responses API: items go in and come out, and a conversation can be kept here."""
