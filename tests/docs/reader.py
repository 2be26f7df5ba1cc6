"""Does what a page says, block by block, as a reader would. Knows blocks, a shell and Python."""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .given import put
from .pages import Block, commands, shows
from .shell import Shell

PORT_OF_THE_PAGES = ":8000"
"""Where the pages have their server."""


@dataclass
class Reader:
    """Follows one page.

    Args:
        shell: Where commands are typed.
        folder: Where files are written.
        port: Where the server really is, whatever the page says.
        timeout_s: Most seconds that one command may take.
        instead: What is really meant by other texts of the page, such as addresses.
    """

    shell: Shell
    folder: Path
    port: str
    timeout_s: float
    instead: Mapping[str, str] = field(default_factory=dict)
    _runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    _names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    _printed: str = ""

    def read(self, page: list[Block]) -> None:
        """Do all of a page.

        Raises:
            AssertionError: Something did not do what the page says; the line is named.
        """
        try:
            with self._runner:
                for block in page:
                    if block.not_run is None:
                        self._do(block)
        finally:
            self._forget()

    def _forget(self) -> None:
        # Pages don't close their clients, and Python warns of each when it goes.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._names.clear()
            gc.collect()

    def _do(self, block: Block) -> None:
        put(block.given, self.folder)
        act = self._act_of(block)
        try:
            if act is not None:
                act(block)
        except Exception as exc:
            raise AssertionError(f"line {block.line}: {exc}") from exc

    def _act_of(self, block: Block) -> Callable[[Block], None] | None:
        if block.is_file:
            return self._write
        if block.title == "output":
            return self._compare
        return {"console": self._type, "bash": self._type_all, "python": self._execute}.get(
            block.language
        )

    def _write(self, block: Block) -> None:
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._here(block.text), encoding="utf-8")

    def _type(self, block: Block) -> None:
        typed = commands(block.text)
        for command in typed:
            wanted = block.exit_code if command is typed[-1] else 0
            printed, code = self.shell.run(self._here(command.text), timeout_s=self.timeout_s)
            assert code == wanted, f"$ {command.text}\nended with {code}\n{printed}"
            for line in command.shown:
                assert shows(line, printed), f"$ {command.text}\nprinted no `{line}`\n{printed}"

    def _type_all(self, block: Block) -> None:
        printed, code = self.shell.run(self._here(block.text), timeout_s=self.timeout_s)
        assert code == block.exit_code, f"ended with {code}\n{printed}"
        self._printed = printed

    def _execute(self, block: Block) -> None:
        source = self._here(block.text)
        code = compile(source, f"line {block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        out = io.StringIO()
        with redirect_stdout(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = eval(code, self._names)
            if inspect.iscoroutine(result):
                self._runner.run(result)
        self._printed = out.getvalue()

    def _compare(self, block: Block) -> None:
        for line in block.text.splitlines():
            assert shows(line, self._printed), f"no `{line}` in\n{self._printed}"

    def _here(self, text: str) -> str:
        for shown, meant in {PORT_OF_THE_PAGES: f":{self.port}", **self.instead}.items():
            text = text.replace(shown, meant)
        return text
