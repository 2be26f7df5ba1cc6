"""The page of the docs on failures: the tree of errors, exit codes, and how HTTP answers each.

Knows `qwenkit.errors` and the server's table of statuses.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from qwenkit import errors
from qwenkit.errors import QwenkitError
from qwenkit.server.errors import KINDS

INTRODUCTION = """\
Every failure that qwenkit reports on purpose says in one sentence what is wrong, and in a hint
what to do next. On the command line both go to stderr, and the [exit code](cli.md#exit-codes)
says of which kind it was. Over HTTP the answer has OpenAI's shape, where `param` names the
field at fault:

```json
{
  "error": {
    "message": "…",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded"
  }
}
```

In a stream that has begun the same object is the last event. A 503 says in `Retry-After` when
to come again; clients of OpenAI's and Anthropic's SDKs do so by themselves. Routes of other
APIs use their own shape for the same facts. In Python each is an exception of `qwenkit.errors`
with `message`, `hint` and `exit_code`. What is none of these is a bug: it has a traceback, and
exit code 1 or status 500."""


def errors_page() -> str:
    """The whole page."""
    parts = ["# Errors", INTRODUCTION, "## On the command line and in Python", _tree_table()]
    parts += ["## Over HTTP", _http_table()]
    return "\n\n".join(parts) + "\n"


def _tree_table() -> str:
    rows = [
        (f"{'&emsp;' * depth}`{kind.__name__}`", str(kind.exit_code), _meaning(kind))
        for depth, kind in _tree(QwenkitError)
        if kind.__module__ == errors.__name__
    ]
    return _table(("Error", "Exit code", "Means"), rows)


def _tree(kind: type[QwenkitError], depth: int = 0) -> Iterator[tuple[int, type[QwenkitError]]]:
    yield depth, kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def _http_table() -> str:
    known = sorted(KINDS.items(), key=lambda each: each[1].status)
    rows = [
        (
            str(answer.status),
            f"`{answer.code}`" if answer.code else "",
            f"`{answer.type}`",
            _meaning(kind),
        )
        for kind, answer in known
    ]
    return _table(("Status", "`code`", "`type`", "Means"), rows)


def _meaning(kind: type[BaseException]) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
