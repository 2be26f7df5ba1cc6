"""Every failure qwenkit reports on purpose, and the exit code each one ends a command with.

    QwenkitError                  1
    ├── UsageError                2    the caller asked for something that can't be
    │   ├── InvalidRequest             a field of a request is wrong (`param` names it)
    │   │   ├── ContextOverflow        the prompt does not fit the context
    │   │   ├── InvalidGrammar         a JSON schema or grammar that doesn't compile
    │   │   ├── InvalidMessages        a conversation the template can't render
    │   │   ├── UnknownModel           no model of that name
    │   │   ├── UnknownAdapter         no adapter of that name
    │   │   └── UnknownMcpServer       no MCP server of that name
    │   ├── InvalidData                rows to learn from that can't be used
    │   │   └── InvalidRecord          a line of the feedback log that holds no record
    │   └── InvalidSettings            a setting, or two that contradict each other
    ├── MissingExtra              3    an optional package is not installed
    ├── ModelError                4    a model on disk or on the Hub
    │   ├── ModelNotFound              nothing there
    │   ├── ModelCorrupt               truncated, damaged or not what it says it is
    │   ├── ModelUnsupported           a sound file of a kind qwenkit can't use
    │   ├── AdapterUnsupported         a sound adapter that can't be used, or not with this model
    │   └── DownloadFailed             the Hub or the network said no
    ├── EngineError               5
    │   ├── EngineBusy                 the queue is full; try again (`retry_after_s`)
    │   ├── EngineStopped              the engine is shutting down
    │   ├── DecodeFailed               the runtime could not compute this request
    │   └── OutOfMemory                weights or KV cache do not fit
    ├── ServerError               6
    │   ├── AddressInUse               something else listens there
    │   ├── RemoteError                another server answered with an error
    │   └── RemoteUnreachable          another server did not answer
    └── FeedbackError             7
        ├── LogUnwritable              a record could not be written
        └── LogUnreadable              the log or its index could not be read

Raised where the fact is known; caught in two places: the command line's boundary and the server's
handlers. `hint` is the next step, worded as a command or a setting where there is one.
"""

from __future__ import annotations

from typing import ClassVar


class QwenkitError(Exception):
    """A failure worth one sentence to the user.

    Args:
        message: One sentence that names what is wrong.
        hint: What to do next; empty when there is nothing to suggest.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(QwenkitError):
    """The caller asked for something that can't be."""

    exit_code = 2


class InvalidRequest(UsageError):
    """A field of a request is wrong; `param` names it as the caller spelled it."""

    def __init__(self, message: str, *, param: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.param = param


class ContextOverflow(InvalidRequest):
    """The prompt does not fit the context.

    Args:
        n_prompt: Tokens in the prompt.
        n_ctx: Tokens the context holds.
    """

    def __init__(self, *, n_prompt: int, n_ctx: int, param: str | None = "messages") -> None:
        super().__init__(
            f"the prompt has {n_prompt} tokens and the context holds {n_ctx}",
            param=param,
            hint=f"shorten the prompt, or serve with N_CTX of {n_prompt + 1} or more",
        )
        self.n_prompt = n_prompt
        self.n_ctx = n_ctx


class InvalidGrammar(InvalidRequest):
    """A JSON schema or grammar that doesn't compile."""


class InvalidMessages(InvalidRequest):
    """A conversation the chat template can't render."""


class UnknownModel(InvalidRequest):
    """No model of that name."""


class UnknownAdapter(InvalidRequest):
    """No adapter of that name."""


class UnknownMcpServer(InvalidRequest):
    """No MCP server of that name."""


class InvalidData(UsageError):
    """Rows to learn from that can't be used."""


class InvalidRecord(InvalidData):
    """A line of the feedback log that holds no record, or a record that makes no line."""


class InvalidSettings(UsageError):
    """A setting is wrong, or two contradict each other."""


class MissingExtra(QwenkitError):
    """An optional package is not installed.

    Args:
        package: The import that failed.
        extra: The extra of qwenkit that brings it.
    """

    exit_code = 3

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"`{package}` is not installed", hint=f"pip install 'qwenkit[{extra}]'")
        self.package = package
        self.extra = extra


class ModelError(QwenkitError):
    """A model on disk or on the Hub."""

    exit_code = 4


class ModelNotFound(ModelError):
    """Nothing at that path or under that Hub id."""


class ModelCorrupt(ModelError):
    """A file that is truncated, damaged or not what it says it is."""


class ModelUnsupported(ModelError):
    """A sound file of a kind qwenkit can't use."""


class AdapterUnsupported(ModelError):
    """A sound adapter of a kind that qwenkit can't use, or that does not fit the model."""


class DownloadFailed(ModelError):
    """The Hub or the network said no."""


class EngineError(QwenkitError):
    """The engine or its runtime."""

    exit_code = 5


class EngineBusy(EngineError):
    """The queue is full.

    Args:
        retry_after_s: Seconds after which a place is likely to be free.
    """

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class EngineStopped(EngineError):
    """The engine is shutting down or has stopped."""


class DecodeFailed(EngineError):
    """The runtime could not compute this request."""


class OutOfMemory(EngineError):
    """Weights or KV cache do not fit the machine's memory."""


class ServerError(QwenkitError):
    """Serving, or talking to a server."""

    exit_code = 6


class AddressInUse(ServerError):
    """Something else listens on that address."""


class RemoteError(ServerError):
    """Another server answered with an error.

    Args:
        status: The HTTP status it answered with.
    """

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class RemoteUnreachable(ServerError):
    """Another server did not answer."""


class FeedbackError(QwenkitError):
    """The log of answers and ratings."""

    exit_code = 7


class LogUnwritable(FeedbackError):
    """A record could not be written; nothing of it is in the log."""


class LogUnreadable(FeedbackError):
    """The log or its index could not be read."""
