"""A reader's terminal: one shell for a whole page, and the server that it started.

Knows bash and `qwenkit serve`; nothing of pages.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

END = "--- the end of a command:"
SERVES = re.compile(r"(?:^|\s)qwenkit serve\b")
ASKS = re.compile(r"^qwenkit (?:lora (?:load|unload|list)|model load)\b")
"""Commands that ask a server, by default one at the usual port."""
READY_S = 600.0
"""An export comes before the first answer on ONNX Runtime."""
STOP_S = 10.0


class Shell:
    """Runs commands one after another, each of which finds what those before it left.

    Args:
        folder: Where it starts.
        env: Its whole environment; `PORT` is where a server listens.
    """

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder = folder
        self._port = env["PORT"]
        self._server: str | None = None
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._say("set -o pipefail", timeout_s=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            with suppress(ProcessLookupError):
                os.killpg(int(self._server), signal.SIGKILL)
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        with suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
        with suppress(BrokenPipeError):
            self._bash.stdin.close()
        self._bash.stdout.close()

    def run(self, command: str, *, timeout_s: float) -> tuple[str, int]:
        """Run a command to its end, or start a server and wait until it serves.

        Returns:
            What was printed, to either stream, and the exit code; a server's is 0.
        """
        if SERVES.search(command):
            return self._serve(command), 0
        if ASKS.search(command):
            command = f"OPENAI_API_BASE_URL=http://127.0.0.1:{self._port}/v1 {command}"
        return self._say(command, timeout_s=timeout_s)

    def stop_server(self) -> None:
        """End the server that runs, if one does, and wait for it."""
        if self._server is not None:
            pid, self._server = self._server, None
            for name in ("TERM", "KILL"):
                self._say(f"kill -{name} -- -{pid} 2>/dev/null; true", timeout_s=10)
                if self._has_ended(pid):
                    return

    def _serve(self, command: str) -> str:
        self.stop_server()
        log = self._folder / "serve.log"
        started = f"set -m; {{ {command}\n}} >'{log}' 2>&1 & echo $!; set +m"
        printed, _ = self._say(started, timeout_s=10)
        self._server = printed.split()[-1]
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            assert self._is_running(self._server), f"{command}\n{log.read_text('utf-8')}"
            assert time.monotonic() < deadline, f"{command}: not ready in {READY_S} s"
            time.sleep(0.02)
        return log.read_text("utf-8")

    def _has_ended(self, pid: str) -> bool:
        deadline = time.monotonic() + STOP_S
        while self._is_running(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self._port}/readyz").status_code == 200
        return False

    def _is_running(self, pid: str) -> bool:
        return self._say(f"kill -0 -- -{pid} 2>/dev/null", timeout_s=10)[1] == 0

    def _say(self, command: str, *, timeout_s: float) -> tuple[str, int]:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n{END}%s\\n' $?\n")
        self._bash.stdin.flush()
        late = threading.Timer(timeout_s, os.killpg, (self._bash.pid, signal.SIGKILL))
        late.start()
        try:
            return self._hear(command)
        finally:
            late.cancel()

    def _hear(self, command: str) -> tuple[str, int]:
        assert self._bash.stdout is not None
        lines = []
        for line in self._bash.stdout:
            if line.startswith(END):
                return "".join(lines), int(line.removeprefix(END))
            lines.append(line)
        raise AssertionError(f"{command}\ntook too long, or ended the shell\n{''.join(lines)}")
