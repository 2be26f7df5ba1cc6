"""What the routes of this server's own answer, as `/openapi.json` describes it. Pure data.

The answers themselves are put together as plain dictionaries, where they come to be; a test holds
the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from qwenkit.feedback.records import Interaction, Rating
from qwenkit.server.reload import Step
from qwenkit.settings import ReloadMode

JsonObject = dict[str, Any]


class Described(BaseModel):
    """An answer, or a part of one; its fields' docstrings become their descriptions."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())


class Alive(Described):
    """The process lives."""

    status: Literal["ok"]
    """Always this."""


class Ready(Alive):
    """Requests are taken."""

    model: str
    """The served model."""


class Me(Described):
    """What the caller may do here."""

    role: Literal["nobody", "user", "admin"]
    """What the key is good for."""
    needs_key: bool
    """Whether nothing can be asked without a key."""
    features: dict[str, bool]
    """What this server has to offer."""
    version: str
    """This server's."""


class Piece(Described):
    """A token."""

    id: int
    """Its number."""
    piece: str | list[int]
    """Its text, or its bytes where they are no text by themselves."""


class Tokens(Described):
    """A text's tokens."""

    tokens: list[int] | list[Piece]
    """Their numbers; with their texts, where that was asked for."""


class Detokenized(Described):
    """The text of tokens."""

    content: str
    """The text."""


class PromptText(Described):
    """What the model is given to read."""

    prompt: str
    """The text, with its control tokens."""


class ShownAdapter(Described):
    """A loaded adapter."""

    id: int
    """Its number, which requests may name in `lora`."""
    name: str
    """What requests call it."""
    version: str
    """Changes when its numbers do."""
    path: str
    """Where it came from."""
    rank: int
    """The rank of its matrices."""
    alpha: float
    """What they are scaled by, beside the rank."""
    targets: list[str]
    """Which layers it changes."""
    n_params: int
    """How many numbers it has."""
    size_bytes: int
    """How large it is."""
    loaded_at: float
    """When it was loaded, in seconds since 1970."""
    template_hash: str | None
    """The chat template that it was trained with, where that is known."""
    template_fits: bool | None
    """Whether the served model has the same; null where that is not known."""


class AdapterList(Described):
    """The loaded adapters."""

    adapters: list[ShownAdapter]
    """All of them."""


class LoraEntry(Described):
    """A loaded adapter, as llama-server lists it."""

    id: int
    """Its number, which requests may name in `lora`."""
    name: str
    """What requests call it."""
    path: str
    """The name of its file or folder."""
    scale: float
    """Always 0: a request uses none unless it says so."""


class LeftOutAdapter(Described):
    """An adapter that the model was not given."""

    name: str
    """Which."""
    reason: str
    """Why."""


class Reloaded(Described):
    """Another model is served."""

    model: str
    """What requests call it."""
    mode: ReloadMode
    """How it got its room."""
    seconds: float
    """How long that took."""
    adapters: list[str]
    """The adapters that it has."""
    left_out: list[LeftOutAdapter]
    """Those that it was not given."""


class ServedNow(Described):
    """The served model."""

    name: str
    """What requests call it."""
    model_path: str | None
    """Where it came from."""
    description: str
    """What it is."""
    runtime: str
    """What computes it."""
    fingerprint: str
    """Changes when the weights do, or what they depend on."""
    n_ctx: int
    """How many tokens a conversation may have."""
    n_slots: int
    """How many requests are computed together."""
    kv_type: str
    """The type of the kept keys and values."""
    since: float
    """Since when it is served, in seconds since 1970."""
    n_requests: int
    """How many requests use it now."""


class Retired(Described):
    """A replaced model that requests still use."""

    name: str
    """What they call it."""
    n_requests: int
    """How many."""


class LoadingProgress(Described):
    """How far a step is."""

    description: str
    """What is being done."""
    done: int
    """How much of it."""
    total: int | None
    """How much there is to do, where that is known."""
    unit: str
    """What is counted; `B` is bytes."""


class LoadingNow(Described):
    """A model that is being loaded."""

    model_path: str | None
    """Where from."""
    mode: ReloadMode
    """How it gets its room."""
    step: Step
    """What is being done."""
    since: float
    """When it began, in seconds since 1970."""
    progress: LoadingProgress | None
    """How far that is."""


class LoadingFailed(Described):
    """Why the last loading failed."""

    message: str
    """In a sentence."""
    at: float
    """When, in seconds since 1970."""


class Status(Described):
    """How the server is doing."""

    state: Literal["loading", "ready", "replacing", "failed", "stopping"]
    """What it is doing."""
    model: ServedNow | None
    """What is served."""
    retired: list[Retired]
    """Replaced models that requests still use."""
    adapters: list[ShownAdapter]
    """The loaded adapters."""
    left_out: list[LeftOutAdapter]
    """Those that the model was not given."""
    loading: LoadingNow | None
    """What is being loaded."""
    last_error: LoadingFailed | None
    """Why the last loading failed."""


class ShownTool(Described):
    """A tool of an MCP server."""

    name: str
    """What the model calls it."""
    server: str
    """Whose it is."""
    own_name: str
    """What its server calls it."""
    title: str
    """For people; may be empty."""
    description: str
    """What it does."""
    parameters: JsonObject
    """JSON schema of its arguments."""
    read_only: bool
    """Whether it says that it changes nothing."""
    destructive: bool
    """Whether it says that it may destroy something."""
    allowed: bool
    """Whether it runs without asking."""


class ToolServer(Described):
    """An MCP server that is not disabled."""

    name: str
    """Which."""
    state: str
    """`connected`, or why not."""
    tools: list[ShownTool]
    """What it offers."""


class ToolServers(Described):
    """The MCP servers, for who may use them."""

    servers: list[ToolServer]
    """All that are not disabled."""


class McpServer(ToolServer):
    """An MCP server."""

    type: str
    """How it is spoken to."""
    where: str
    """Its address or its command."""
    origin: str
    """Whether it is configured or was added."""
    reason: str
    """Why it is not connected; empty where it is."""
    since: float
    """Since when it is as it is, in seconds since 1970."""
    software: str
    """What it says that it is, and its version."""
    protocol: str
    """The protocol's version; empty where it is not connected."""


class McpServerList(Described):
    """The MCP servers, for admins."""

    servers: list[McpServer]
    """All of them."""


class RatingList(Described):
    """A conversation's ratings."""

    object: Literal["list"]
    """What this is."""
    data: list[Rating]
    """Those that count, in order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedInteraction(Interaction):
    """An answer, and the ratings of it that count."""

    ratings: tuple[Rating, ...]


class AnswerPage(Described):
    """A page of answers."""

    object: Literal["list"]
    """What this is."""
    data: list[RatedInteraction]
    """Newest first."""
    next_cursor: str | None
    """Begins the next page; null where there is none."""


class DayCounts(Described):
    """A day's answers."""

    day: str
    """Which, in UTC."""
    n_answers: int
    """How many there were."""
    n_up: int
    """Thumbs up."""
    n_down: int
    """Thumbs down."""
    n_compared: int
    """Comparisons."""


class DayAgreement(Described):
    """How far raters were of one opinion."""

    day: str
    """The day of the answers, in UTC."""
    n_shared: int
    """Answers that several rated."""
    n_agreed: int
    """Those that they agreed about."""
    agreement: float | None
    """The share of these."""


class MakerStanding(Described):
    """How a model or an adapter does."""

    model: str
    """The model."""
    adapter: str | None
    """The adapter, where there is one."""
    version: str | None
    """Its version."""
    n_answers: int
    """Answers."""
    n_up: int
    """Thumbs up."""
    n_down: int
    """Thumbs down."""
    mean_scale: float | None
    """The mean on the scale from 1 to 5."""
    wins: int
    """Comparisons won."""
    losses: int
    """Comparisons lost."""
    ties: int
    """Comparisons without a winner."""
    win_rate: float | None
    """The share of wins, ties counting half."""


class RaterCount(Described):
    """How much somebody rated."""

    rater: str
    """Who."""
    n_ratings: int
    """How much."""


class FeedbackNumbers(Described):
    """What people thought, in numbers."""

    n_answers: int
    """Answers."""
    n_rated: int
    """Those that were rated."""
    n_ratings: int
    """Ratings that count."""
    n_up: int
    """Thumbs up."""
    n_down: int
    """Thumbs down."""
    scale: dict[str, int]
    """How often each point from 1 to 5 was given."""
    n_compared: int
    """Comparisons."""
    n_edited: int
    """Better wordings."""
    days: list[DayCounts]
    """By day."""
    agreement: list[DayAgreement]
    """Of raters, by day."""
    adapters: list[MakerStanding]
    """By what made the answers."""
    raters: list[RaterCount]
    """By who rated, the busiest first."""


class HookAnswer(Described):
    """What a report of Label Studio's came to."""

    n_ratings: int | None = None
    """Ratings that were taken."""
    n_retracted: int | None = None
    """Ratings that were withdrawn; where annotations were deleted."""
