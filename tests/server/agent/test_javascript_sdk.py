"""Every route by npm's `@langchain/langgraph-sdk`.

Needs `node`, and NODE_MODULES: the folder that npm has installed it into.
"""

import asyncio
import os
from pathlib import Path

import pytest

FOLDER = os.environ.get("NODE_MODULES")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.node,
    pytest.mark.skipif(FOLDER is None, reason="needs NODE_MODULES"),
]
SCRIPT = Path(__file__).with_name("every_route.mjs")


async def test_the_javascript_sdk_finds_every_route_as_it_expects(live):
    package = Path(FOLDER, "@langchain/langgraph-sdk/dist/index.js")
    app = live(api_keys="user-key")
    process = await asyncio.create_subprocess_exec(
        *("node", SCRIPT, package, f"{app.state.url}/agent", "user-key"),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, failure = await process.communicate()
    assert process.returncode == 0, failure.decode()
