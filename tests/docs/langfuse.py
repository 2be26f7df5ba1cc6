"""The Langfuse that stands behind the address which the guide shows.

Knows the stand-in of the tests on feedback, and how the guide writes an address and keys.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

URL_OF_THE_PAGES = "https://langfuse.example.org"
KEYS_OF_THE_PAGES = "pk-lf-…:sk-lf-…"
STAND_IN = Path(__file__).parents[1] / "feedback" / "langfuse" / "conftest.py"


@contextmanager
def langfuse() -> Iterator[dict[str, str]]:
    """What stands for the address and the keys of the pages, while it serves."""
    module = _stand_in()
    state = module.Langfuse(public_key="pk-lf-guide")
    state.open.set()
    server = module.Server(("127.0.0.1", 0), type("Guide", (module.Handler,), {"langfuse": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield {
            URL_OF_THE_PAGES: f"http://127.0.0.1:{server.server_address[1]}",
            KEYS_OF_THE_PAGES: f"{state.public_key}:{module.SECRET}",
        }
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _stand_in() -> ModuleType:
    spec = spec_from_file_location("langfuse_stand_in", STAND_IN)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # Its dataclasses look themselves up by the name of their module.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
