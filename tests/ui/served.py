"""A server over scripted answers, as a program of its own: `python served.py SETTINGS`.

Answers to a message with `slowly` in it take their time, and those to one with `anew` in it differ
from each other.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from qwenkit.adapters.prepare import PreparedAdapter
from qwenkit.backends.scripted import Script, ScriptedBackend, ScriptedTokenizer
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine
from qwenkit.server.run import serve
from qwenkit.settings import Settings

PACE_S = 0.01


def call(tool: str, /, **arguments: Any) -> str:
    body = json.dumps({"name": tool, "arguments": arguments})
    return f"<tool_call>\n{body}\n</tool_call>"


NO_THOUGHTS = "<think>\n\n</think>\n\n"
MARKDOWN = """# A heading

Some **bold** words and a [link](https://example.org/page).

| metal | melts at |
| ----- | -------- |
| tin   | 232      |

```python
def double(n):
    return 2 * n
```

Euler: $e^{i\\pi} + 1 = 0$

![picture](https://example.org/picture.png)
"""
ANSWERS = {
    "": f"{NO_THOUGHTS}I do not know.",
    "hello": "<think>\nA greeting needs a greeting.\n</think>\n\nHello there!",
    "changed": f"{NO_THOUGHTS}The change is seen.",
    "markdown": f"{NO_THOUGHTS}{MARKDOWN}",
    "multiply": f"<think>\nA tool knows.\n</think>\n\n{call('calculator', expression='17*23')}",
    "391": f"{NO_THOUGHTS}It is 391.",
    "look up": f"{NO_THOUGHTS}I will look.\n{call('variable', name='FIRST')}",
    "alpha-one": f"{NO_THOUGHTS}It says alpha.",
    "beta-two": f"{NO_THOUGHTS}It says beta.",
    "ask for it": f"{NO_THOUGHTS}Then I will not.",
    "far away": f"{NO_THOUGHTS}{call('huge', n=5)}",
    "xxxxx": f"{NO_THOUGHTS}It came from far.",
    "slowly": f"{NO_THOUGHTS}" + " ".join(f"step{n}" for n in range(1, 41)) + " arrived.",
}


class Teller:
    """Tells the scripted answers, some of them slowly and some in ever new versions."""

    def __init__(self) -> None:
        tokenizer = ScriptedTokenizer()
        self._script = Script(ANSWERS, tokenizer)
        self._versions = (
            Script({"": f"{NO_THOUGHTS}This is version {n}."}, tokenizer) for n in count(1)
        )
        self._version = next(self._versions)
        self._user, self._assistant = (
            chr(tokenizer.added_tokens["<|im_start|>"]) + role for role in ("user\n", "assistant\n")
        )

    def __call__(self, tokens: Sequence[int]) -> int:
        """The token that follows `tokens`."""
        asked = "".join(map(chr, tokens)).rpartition(self._user)[2]
        if "slowly" in asked:
            time.sleep(PACE_S)
        if "anew" not in asked:
            return self._script(tokens)
        if asked.endswith(self._assistant):
            self._version = next(self._versions)
        return self._version(tokens)


def prepare_adapter(source: Path) -> PreparedAdapter:
    content = source.read_bytes()
    return PreparedAdapter(
        path=source,
        source=source,
        version=hashlib.sha256(content).hexdigest()[:12],
        rank=8,
        alpha=16.0,
        targets=("q_proj",),
        n_params=100,
        size_bytes=len(content),
        template_hash=None,
    )


def load(spec: Any, *, name: str | None, progress: Any, observer: Any) -> ChatModel:
    backend = ScriptedBackend(Teller(), n_slots=4, n_ctx=16384)
    engine = Engine(backend, observer=observer, prepare_adapter=prepare_adapter)
    template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
    return ChatModel(name or "scripted", engine.start(), template)


def main() -> None:
    settings = Settings(_env_file=None, **json.loads(sys.argv[1]))
    serve(settings, on_ready=lambda info: None, load=load)


if __name__ == "__main__":
    main()
