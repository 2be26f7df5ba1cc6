"""The tools that the MCP server offers. Each reads its arguments, asks the host, and tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from mcp_types import CallToolResult, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qwenkit.errors import InvalidRequest
from qwenkit.mcp.server.offer import Host, OfferedModel, OnTokens, Question

Name = Annotated[str, Field(min_length=1, max_length=256)]
Run: TypeAlias = Callable[[Host, Any, OnTokens], Awaitable[CallToolResult]]


class Arguments(BaseModel):
    """What clients send; nothing else is taken."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class AskArguments(Arguments):
    """The arguments of `ask`."""

    question: Annotated[str, Field(min_length=1)]
    """What to ask."""
    system: str = ""
    """What the model is told first, such as its role."""
    thinking: bool | None = None
    """Whether it thinks before it answers: better on hard questions, slower. Absent leaves it to
    the model."""
    model: Name | None = None
    """The name of an adapter to answer with, as `list_models` has it; absent is the model as it
    is."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of the answer, thinking included."""
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    """0 always takes the likeliest token."""


class ListModelsArguments(Arguments):
    """`list_models` takes none."""


class LoadAdapterArguments(Arguments):
    """The arguments of `load_adapter`."""

    name: Name
    """What requests will call it, as their `model`."""
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    """A PEFT folder, a `.gguf` or an `.onnx_adapter` on the server's machine."""
    replace: bool = False
    """Let a name that is taken stand for this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedTool:
    """A tool of ours.

    Args:
        tool: As clients see it.
        arguments: Reads what they send.
        run: Does it.
        for_admins: Whether only an admin sees it and may call it.
    """

    tool: Tool
    arguments: type[BaseModel]
    run: Run
    for_admins: bool = False

    async def call(
        self, host: Host, given: Mapping[str, Any], on_tokens: OnTokens
    ) -> CallToolResult:
        """Call it.

        Raises:
            InvalidRequest: An argument is wrong.
            QwenkitError: It can't be done.
        """
        try:
            arguments = self.arguments.model_validate(given)
        except ValidationError as exc:
            first = exc.errors()[0]
            param = ".".join(map(str, first["loc"]))
            raise InvalidRequest(f"{param}: {first['msg']}", param=param) from exc
        return await self.run(host, arguments, on_tokens)


async def _ask(host: Host, given: AskArguments, on_tokens: OnTokens) -> CallToolResult:
    question = Question(
        prompt=given.question,
        system=given.system,
        thinking=given.thinking,
        model=given.model,
        max_tokens=given.max_tokens,
        temperature=given.temperature,
    )
    reply = await host.ask(question, on_tokens)
    structured: dict[str, Any] = {
        "answer": reply.text,
        "reasoning": reply.reasoning,
        "model": reply.model,
        "finish_reason": reply.finish,
        "prompt_tokens": reply.n_prompt,
        "completion_tokens": reply.n_completion,
    }
    if reply.id:
        structured["id"] = reply.id
    return _told(reply.text, structured)


async def _list_models(host: Host, _: ListModelsArguments, __: OnTokens) -> CallToolResult:
    models = await host.models()
    return _told("\n".join(map(_line, models)), {"models": [asdict(each) for each in models]})


async def _load_adapter(host: Host, given: LoadAdapterArguments, _: OnTokens) -> CallToolResult:
    made = await host.load_adapter(given.name, Path(given.path), replace=given.replace)
    return _told(f"loaded {_line(made)}", asdict(made))


def _line(model: OfferedModel) -> str:
    version = f" {model.version}" if model.version else ""
    return f"{model.name}{version}: {model.kind}, {model.description}".rstrip(", ")


def _told(text: str, structured: dict[str, Any]) -> CallToolResult:
    content = TextContent(type="text", text=text)
    return CallToolResult(content=[content], structured_content=structured)


def arguments_schema(arguments: type[BaseModel]) -> dict[str, Any]:
    """A tool's arguments as a JSON schema."""
    schema = arguments.model_json_schema()
    for key in ("title", "description"):
        schema.pop(key, None)
    return schema


def _object(**properties: str) -> dict[str, Any]:
    typed = {name: {"type": kind} for name, kind in properties.items()}
    return {"type": "object", "properties": typed, "required": list(properties)}


_MODEL = _object(
    name="string", kind="string", description="string", version="string", n_ctx="integer"
)

TOOLS = (
    OfferedTool(
        tool=Tool(
            name="ask",
            title="Ask the local model",
            description="Asks the Qwen3 model that runs here, and gives its answer. It knows "
            "nothing of your conversation: put everything that it needs into the question.",
            input_schema=arguments_schema(AskArguments),
            output_schema=_object(
                answer="string",
                reasoning="string",
                model="string",
                finish_reason="string",
                prompt_tokens="integer",
                completion_tokens="integer",
            ),
            annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
        ),
        arguments=AskArguments,
        run=_ask,
    ),
    OfferedTool(
        tool=Tool(
            name="list_models",
            title="List models and adapters",
            description="Lists the model that is served and the LoRA adapters that it can answer "
            "with.",
            input_schema=arguments_schema(ListModelsArguments),
            output_schema={
                "type": "object",
                "properties": {"models": {"type": "array", "items": _MODEL}},
                "required": ["models"],
            },
            annotations=ToolAnnotations(
                read_only_hint=True, idempotent_hint=True, open_world_hint=False
            ),
        ),
        arguments=ListModelsArguments,
        run=_list_models,
    ),
    OfferedTool(
        tool=Tool(
            name="load_adapter",
            title="Load an adapter",
            description="Loads a LoRA adapter while the model serves, so that `ask` can name it.",
            input_schema=arguments_schema(LoadAdapterArguments),
            output_schema=_MODEL,
            annotations=ToolAnnotations(
                read_only_hint=False,
                destructive_hint=False,
                idempotent_hint=True,
                open_world_hint=False,
            ),
        ),
        arguments=LoadAdapterArguments,
        run=_load_adapter,
        for_admins=True,
    ),
)
