"""Prompts that a client can offer its user: ready words to put a qwenkit model to work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mcp_types import GetPromptResult, Prompt, PromptArgument, PromptMessage, TextContent

from qwenkit.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class _Prepared:
    prompt: Prompt
    write: Callable[[Mapping[str, str]], str]


def _second_opinion(given: Mapping[str, str]) -> str:
    return (
        "Get a second opinion from the local model: call the tool `ask` with `thinking` on and the "
        "question below, without telling it the answer. Then say where the two answers agree, "
        "where they differ, and which one is right, with your reasons.\n\n"
        f"Question:\n{given['question']}\n\nAnswer so far:\n{given['answer']}"
    )


def _compare_adapter(given: Mapping[str, str]) -> str:
    return (
        "Find out what an adapter has changed. Call the tool `ask` twice with the question below: "
        f"once without `model`, once with `model` set to {given['adapter']!r}; use `temperature` 0 "
        "both times. Show the two answers side by side and say in two sentences what the adapter "
        f"does differently.\n\nQuestion:\n{given['question']}"
    )


PROMPTS = (
    _Prepared(
        Prompt(
            name="second_opinion",
            title="Second opinion",
            description="Has the local model answer a question anew and compares the two answers.",
            arguments=[
                PromptArgument(name="question", description="What was asked.", required=True),
                PromptArgument(name="answer", description="What was answered.", required=True),
            ],
        ),
        _second_opinion,
    ),
    _Prepared(
        Prompt(
            name="compare_adapter",
            title="Compare an adapter",
            description="Asks the model with and without a LoRA adapter and tells the difference.",
            arguments=[
                PromptArgument(name="question", description="What to ask.", required=True),
                PromptArgument(name="adapter", description="The adapter's name.", required=True),
            ],
        ),
        _compare_adapter,
    ),
)


def written(name: str, given: Mapping[str, str]) -> GetPromptResult:
    """A prompt with its arguments in it.

    Raises:
        InvalidRequest: There is none of that name, or an argument is missing.
    """
    for each in PROMPTS:
        if each.prompt.name == name:
            _check(each.prompt, given)
            content = TextContent(type="text", text=each.write(given))
            message = PromptMessage(role="user", content=content)
            return GetPromptResult(description=each.prompt.description, messages=[message])
    raise InvalidRequest(f"there is no prompt {name!r}", param="name")


def _check(prompt: Prompt, given: Mapping[str, str]) -> None:
    for argument in prompt.arguments or ():
        if argument.required and not given.get(argument.name):
            raise InvalidRequest(
                f"the prompt {prompt.name!r} needs {argument.name!r}", param=argument.name
            )
