"""Runs the worker and listens to it. Ends it whatever happens here, Ctrl-C too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO

from qwenkit.errors import EngineError
from qwenkit.quantize.worker import Job

# ggml_log_level
_ERROR = 4


def run_job(job: Job, on_text: Callable[[str], None] = lambda _: None) -> str:
    """Have a job done in a process of its own.

    Args:
        job: What to do.
        on_text: Told each piece of what llama.cpp logs, while it works.

    Returns:
        All that llama.cpp logged.

    Raises:
        EngineError: llama.cpp refused, failed, or ended the process.
    """
    with TemporaryFile() as complaints, _started(complaints) as process:
        try:
            _send(job, process.stdin)
            code, texts, errors = _listen(process.stdout, on_text)
        finally:
            process.kill()
        if code == 0:
            return "".join(texts)
        complaints.seek(0)
        last_words = complaints.read().decode("utf-8", "replace").strip()
    reason = _reason(errors) or _last_line(last_words) or "it ended without a word"
    raise EngineError(f"llama.cpp could not quantise `{job.source}`: {reason}")


def _started(complaints: IO[bytes]) -> subprocess.Popen[str]:
    # In a session of its own: Ctrl-C in the terminal is for this process, which then ends it.
    # `-P`: nothing in the current folder is taken for a module.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "qwenkit.quantize.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )


def _send(job: Job, pipe: IO[str] | None) -> None:
    # Where it has ended already, what it left on stderr says why.
    with suppress(BrokenPipeError):
        if pipe is not None:
            pipe.write(job.as_json())
            pipe.close()


def _listen(
    pipe: IO[str] | None, on_text: Callable[[str], None]
) -> tuple[int | None, list[str], list[str]]:
    """What the call returned, if it did; all texts; those of errors."""
    code: int | None = None
    texts: list[str] = []
    errors: list[str] = []
    for line in pipe or ():
        message = json.loads(line)
        if "result" in message:
            code = message["result"]
            continue
        texts.append(message["text"])
        if message["level"] == _ERROR:
            errors.append(message["text"])
        on_text(message["text"])
    return code, texts, errors


def _reason(errors: list[str]) -> str:
    lines = (line.strip(" =\n") for text in errors for line in text.splitlines())
    return "; ".join(line for line in lines if line)


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else ""
