"""What a run may choose."""

import pytest

from qwenkit.agent.choices import Choices, read_choices
from qwenkit.errors import InvalidRequest


def test_nothing_chosen_leaves_everything_open():
    assert read_choices({}) == Choices()
    assert read_choices({"model": None, "thread_id": "x", "__pregel_send": object()}) == Choices()


def test_choices_are_read_by_their_names():
    choices = read_choices(
        {"model": "m", "thinking": False, "temperature": 0, "top_k": 3, "tools": ["a", "a"]}
    )
    assert choices.model == "m"
    assert choices.thinking is False
    assert choices.sampling == {"temperature": 0, "top_k": 3}
    assert choices.tools == {"a"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 5),
        ("thinking", 1),
        ("thinking_budget", -1),
        ("max_tokens", 0),
        ("max_tokens", True),
        ("max_steps", 101),
        ("temperature", "hot"),
        ("temperature", -1),
        ("temperature", float("nan")),
        ("top_k", 1.5),
        ("seed", 1.0),
        ("tools", "clock"),
        ("allowed_tools", [1]),
        ("system_prompt", ["x"]),
    ],
)
def test_a_value_that_can_not_be_is_refused_by_its_place(name, value):
    with pytest.raises(InvalidRequest) as caught:
        read_choices({name: value})
    assert caught.value.param == f"config.configurable.{name}"
