"""An answer and its prompt as plain texts, for trainers that know no templates. Knows one template.

The prompt's text is what the server rendered. That is sure where the log names the template by its
hash, or where the text has the prompt's hash; other answers become no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwenkit.chat.messages import Message, parse_messages, parse_tools
from qwenkit.chat.template import ChatTemplate
from qwenkit.feedback.records import Interaction, hash_prompt

OTHER_TEMPLATE = "rendered with another chat template"
BEHIND = "an answer that the template shows otherwise than behind its prompt"

_END = "<|im_end|>"


def sample_texts(
    template: ChatTemplate,
    origin: Interaction,
    messages: Sequence[Mapping[str, Any]],
    answer: Mapping[str, Any],
    variables: Mapping[str, Any],
) -> tuple[str, str] | str:
    """The prompt's text and the answer's, or the reason why there are none.

    Args:
        template: Renders.
        origin: The answer whose prompt it is.
        messages: The conversation before it.
        answer: The assistant's message.
        variables: What the template is told beside them.

    Raises:
        InvalidMessages: The template refuses the conversation.
    """
    parsed = parse_messages(messages)
    prompt = _render(template, origin, parsed, variables, opens=True)
    if origin.template_hash != template.hash and hash_prompt(prompt) != origin.prompt_hash:
        return OTHER_TEMPLATE
    whole = _render(template, origin, (*parsed, *parse_messages([answer])), variables, opens=False)
    if not whole.startswith(prompt):
        return BEHIND
    text, end, _ = whole[len(prompt) :].rpartition(_END)
    return (prompt, text + end) if end else BEHIND


def _render(
    template: ChatTemplate,
    origin: Interaction,
    messages: tuple[Message, ...],
    variables: Mapping[str, Any],
    *,
    opens: bool,
) -> str:
    extra = {name: value for name, value in variables.items() if name != "enable_thinking"}
    return template.render(
        messages,
        tools=parse_tools(origin.tools),
        enable_thinking=variables.get("enable_thinking") is not False,
        add_generation_prompt=opens,
        extra=extra,
    ).text
