"""The chat page: where its source and the built page lie. Knows neither Node nor the server."""

from pathlib import Path

WEB = Path(__file__).parent / "web"
"""Its source; not part of wheels."""
DIST = Path(__file__).parent / "dist"
"""The built page; absent until it is built."""
