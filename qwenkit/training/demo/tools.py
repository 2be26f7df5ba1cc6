"""Tools as clients describe them, requests that need them, results and closing answers.

Numbers, places and words are drawn, so that a model learns to copy them from the question rather
than to recall; the tools themselves vary little, which a model of this size needs. Draws come from
a seeded `random.Random` that the caller owns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from qwenkit.chat.messages import Message, Tool, ToolCall
from qwenkit.training.demo.dialogue import Dialogue, Mode, assistant, tool_result, user
from qwenkit.training.demo.small_talk import (
    answered,
    draw_mode,
    draw_name,
    draw_system,
    draw_turn,
    roughen,
    switched,
)

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Use:
    """One request that a tool answers.

    Args:
        request: What the user says.
        thought: Why the tool is called, the end of a sentence that starts with its subject.
        arguments: What it is called with, in the order of the schema.
        result: What it gives back.
        answer: What the user is told then.
    """

    request: str
    thought: str
    arguments: JSON
    result: str
    answer: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool on offer and a way to draw requests for it."""

    tool: Tool
    draw_use: Callable[[Random], Use]
    calculates: bool = False

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.tool.name

    def call(self, use: Use) -> ToolCall:
        """The call that `use` needs."""
        return ToolCall(self.name, use.arguments)


def _tool(
    name: str, description: str, properties: Mapping[str, JSON], required: Sequence[str] = ()
) -> Tool:
    parameters: JSON = {"type": "object", "properties": dict(properties)}
    if required:
        parameters["required"] = list(required)
    function = {"name": name, "description": description, "parameters": parameters}
    return Tool(name, parameters, {"type": "function", "function": function})


_SIGNS: Final = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
_ASKED: Final = {
    "add": ("What is {a} + {b}?", "Add {a} and {b}", "How much is {a} plus {b}?", "{a} + {b}",
            "What is {a} plus {b}?", "Calculate {a} + {b}", "What is the sum of {a} and {b}?",
            "{a}+{b}=?"),
    "subtract": ("What is {a} - {b}?", "Subtract {b} from {a}", "How much is {a} minus {b}?",
                 "{a} - {b}", "What is {a} minus {b}?", "Calculate {a} - {b}", "{a}-{b}=?"),
    "multiply": ("What is {a} * {b}?", "Multiply {a} by {b}", "How much is {a} times {b}?",
                 "{a} * {b}", "What is {a} times {b}?", "Calculate {a} * {b}", "{a}*{b}=?",
                 "What is {a} x {b}?", "Calculate {a} times {b}", "Multiply {a} and {b}",
                 "What is {a} multiplied by {b}?", "What is the product of {a} and {b}?"),
    "divide": ("What is {a} / {b}?", "Divide {a} by {b}", "How much is {a} divided by {b}?",
               "{a} / {b}", "What is {a} divided by {b}?", "Calculate {a} / {b}", "{a}/{b}=?"),
}  # fmt: skip
_SPOKEN: Final = {"add": "plus", "subtract": "minus", "multiply": "times", "divide": "divided by"}


def draw_number(rng: Random) -> int | float:
    """One to four digits, each length as likely; now and then a decimal fraction."""
    digits = rng.randint(1, 4)
    whole = rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)
    if rng.random() < 0.03:
        return float(f"{whole}.{rng.randint(1, 9)}")
    return whole


def _compute(act: str, a: float, b: float) -> str:
    if act == "divide" and b == 0:
        return "Error: division by zero"
    value = {"add": a + b, "subtract": a - b, "multiply": a * b, "divide": a / (b or 1)}[act]
    return f"{value:.10g}"


def _reported(result: str, rng: Random, key: str = "result") -> str:
    """A result as tools word it: bare or as JSON."""
    if result.startswith("Error") or rng.random() < 0.65:
        return result
    return json.dumps({key: result})


def _outcome(act: str, a: float, b: float, rng: Random) -> tuple[str, str]:
    """The tool's result, and the answer made of it."""
    value = _compute(act, a, b)
    if value.startswith("Error"):
        return value, "The tool failed: division by zero."
    return _reported(value, rng), f"{a} {_SPOKEN[act]} {b} is {value}."


def _calculator(rng: Random) -> Offer:
    """A calculator over two numbers and an operator."""
    operator: JSON = {"type": "string"}
    if rng.random() < 0.6:
        operator["enum"] = list(_SIGNS.values())
    properties = {"a": {"type": "number"}, "b": {"type": "number"}, "operator": operator}
    name = rng.choice(("calculator", "calculator", "calculator", "calculate"))
    description = rng.choice((
        "Adds, subtracts, multiplies or divides two numbers.", "A calculator.", "Calculate",
    ))  # fmt: skip

    def draw_use(rng: Random) -> Use:
        act = rng.choice(tuple(_SIGNS))
        a, b = draw_number(rng), draw_number(rng)
        result, answer = _outcome(act, a, b, rng)
        arguments = {"a": a, "b": b, "operator": _SIGNS[act]}
        return Use(_asked(act, a, b, rng), f"to {act}", arguments, result, answer)

    tool = _tool(name, description, properties, list(properties))
    return Offer(tool, draw_use, calculates=True)


def _asked(act: str, a: float, b: float, rng: Random) -> str:
    request = rng.choice(_ASKED[act]).format(a=a, b=b)
    if rng.random() < 0.08 and not request[0].isdigit():
        request = f"Use the calculator: {request}"
    return request


_ZONES: Final = {
    "Berlin": "Europe/Berlin", "Paris": "Europe/Paris", "London": "Europe/London",
    "Rome": "Europe/Rome", "Madrid": "Europe/Madrid", "Tokyo": "Asia/Tokyo",
    "Shanghai": "Asia/Shanghai", "Singapore": "Asia/Singapore", "New York": "America/New_York",
    "Chicago": "America/Chicago", "Sydney": "Australia/Sydney", "UTC": "UTC",
}  # fmt: skip
_TIME_ASKED: Final = (
    "What time is it?", "What's the time?", "Tell me the time", "What is the current time?",
    "Can you tell me the time?", "What time is it now?", "Time?", "Do you know what time it is?",
    "What is the time?", "Check the clock", "What is the date and time?", "What time do we have?",
)  # fmt: skip
_TIME_IN: Final = (
    "What time is it in {}?", "What's the time in {}?", "Tell me the time in {}", "Time in {}?",
    "What is the current time in {}?", "What is the time in {}?", "What time is it in {} now?",
)  # fmt: skip


def _draw_time(rng: Random) -> str:
    hour, minute, second = rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59)
    short, long = f"{hour:02}:{minute:02}", f"{hour:02}:{minute:02}:{second:02}"
    date = f"20{rng.randint(24, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return rng.choice((short, short, long, f"{date} {short}", f"{date}T{long}", f"{date}T{long}Z"))


def _clock(rng: Random) -> Offer:
    """A clock, with or without a time zone."""
    name = rng.choice(("clock", "clock", "clock", "get_time"))
    description = rng.choice(("Tells the current time.", "Get the current time", "A clock."))
    in_zones = rng.random() < 0.6
    properties = {"timezone": {"type": "string"}} if in_zones else {}

    def draw_use(rng: Random) -> Use:
        time = _draw_time(rng)
        result = _reported(time, rng, "time")
        if not in_zones or rng.random() < 0.35:
            return Use(rng.choice(_TIME_ASKED), "to tell the time", {}, result, f"It is {time}.")
        place = rng.choice(tuple(_ZONES))
        zone = _ZONES[place]
        asked = rng.choice(_TIME_IN).format(zone if rng.random() < 0.3 else place)
        return Use(
            asked, "to tell the time", {"timezone": zone}, result, f"It is {time} in {zone}."
        )

    return Offer(_tool(name, description, properties), draw_use)


_CITIES: Final = (
    "Berlin", "Paris", "London", "Rome", "Madrid", "Tokyo", "Shanghai", "Singapore", "New York",
    "Chicago", "Sydney", "Oslo", "Vienna", "Prague", "Warsaw", "Lisbon", "Dublin", "Athens",
    "Cairo", "Delhi", "Mumbai", "Lima", "Quito", "Boston", "Seattle", "Toronto", "Zurich",
    "Hamburg", "Munich", "San Francisco", "Los Angeles", "Beijing",
    "Seoul", "Moscow", "Helsinki", "Nairobi", "Lagos",
)  # fmt: skip
_SKIES: Final = ("sunny", "cloudy", "rainy", "windy", "foggy", "clear", "snowy")


def _draw_city(rng: Random) -> str:
    return rng.choice(_CITIES) if rng.random() < 0.6 else draw_name(rng)


def _weather(rng: Random) -> Offer:
    """The weather of a city."""
    name = rng.choice(("get_weather", "get_weather", "weather"))
    description = rng.choice(("Get the weather of a city", "Tells the weather."))

    def draw_use(rng: Random) -> Use:
        city = _draw_city(rng)
        asked = rng.choice((
            "What is the weather in {}?", "How is the weather in {}?", "Weather in {}?",
            "What's the weather like in {}?", "Tell me the weather in {}", "Is it cold in {}?",
            "Will it rain in {}?",
        )).format(city)  # fmt: skip
        sky, degrees = rng.choice(_SKIES), rng.randint(-9, 39)
        if rng.random() < 0.35:
            result = json.dumps({"temperature": degrees, "condition": sky})
        else:
            result = f"{sky}, {degrees} degrees"
        return Use(
            asked,
            "to look up the weather",
            {"city": city},
            result,
            f"{city}: {sky}, {degrees} degrees.",
        )

    return Offer(_tool(name, description, {"city": {"type": "string"}}, ["city"]), draw_use)


_WORDS: Final = (
    "red", "green", "blue", "old", "new", "small", "large", "fast", "cheap", "good", "apple", "car",
    "river", "house", "python", "model", "server", "cloud", "garden", "music", "paper", "train",
    "history", "recipe", "camera", "island", "robot", "winter", "bread", "engine", "tokens",
    "cache",
)  # fmt: skip


def _draw_word(rng: Random) -> str:
    return rng.choice(_WORDS) if rng.random() < 0.7 else draw_name(rng).lower()


def _search(rng: Random) -> Offer:
    """A search for a few words."""
    name = rng.choice(("search", "search", "web_search"))
    description = rng.choice(("Search the web", "Searches for a text."))

    def draw_use(rng: Random) -> Use:
        query = " ".join(_draw_word(rng) for _ in range(rng.randint(1, 3)))
        asked = rng.choice((
            "Search for {}", "Search the web for {}", "Look up {}", "Find {}",
            "Please search for {}",
        )).format(query)  # fmt: skip
        found = " ".join(_draw_word(rng) for _ in range(rng.randint(2, 4)))
        return Use(
            asked, "to search", {"query": query}, _reported(found, rng, "text"), f"I found: {found}"
        )

    return Offer(_tool(name, description, {"query": {"type": "string"}}, ["query"]), draw_use)


_KINDS: Final[tuple[tuple[Callable[[Random], Offer], float], ...]] = (
    (_calculator, 0.42),
    (_clock, 0.28),
    (_weather, 0.18),
    (_search, 0.12),
)


def draw_offers(rng: Random, n: int) -> list[Offer]:
    """`n` tools of different kinds."""
    kinds, weights = zip(*_KINDS, strict=True)
    chosen: list[Callable[[Random], Offer]] = []
    while len(chosen) < n:
        kind = rng.choices(kinds, weights)[0]
        if kind not in chosen:
            chosen.append(kind)
    return [kind(rng) for kind in chosen]


def _plan(chosen: Sequence[tuple[Offer, Use]]) -> str:
    steps = " and ".join(f"{offer.name} {use.thought}" for offer, use in chosen)
    return f"I call {steps}."


def _requested(uses: Sequence[Use], mode: Mode, rng: Random) -> str:
    first, *rest = (use.request for use in uses)
    for request in rest:
        first = first.rstrip("?.") + rng.choice((" and ", " and ", ", and ", ". Also, ", "? "))
        first += request[0].lower() + request[1:] if not first.endswith("? ") else request
    if len(uses) == 1:
        first = roughen(first, rng) if rng.random() < 0.15 else first
    return switched(first, mode, rng)


def _draw_uses(offers: Sequence[Offer], rng: Random) -> list[tuple[Offer, Use]]:
    if rng.random() < 0.8:
        offer = rng.choice(offers)
        return [(offer, offer.draw_use(rng))]
    chosen = [rng.choice(offers), rng.choice(offers)]
    return [(offer, offer.draw_use(rng)) for offer in chosen]


def _needs_a_call(
    offers: Sequence[Offer], opening: Sequence[Message], definitions: tuple[Tool, ...], rng: Random
) -> Dialogue:
    """The last answer is the call, or what follows the result."""
    mode = draw_mode(rng)
    chosen = _draw_uses(offers, rng)
    uses = [use for _offer, use in chosen]
    calls = [offer.call(use) for offer, use in chosen]
    thought = _plan(chosen) if mode is Mode.THINK else ""
    messages = [*opening, *_history(offers, rng), user(_requested(uses, mode, rng))]
    calling = assistant("", thought=thought, calls=calls)
    if rng.random() < 0.62:
        return Dialogue((*messages, calling), mode, definitions)
    if rng.random() < 0.3:
        # Some clients send the calls back without the reasoning that led to them.
        calling = assistant("", calls=calls)
    results = [tool_result(use.result) for use in uses]
    answer = "\n".join(use.answer for use in uses)
    return Dialogue(
        (
            *messages,
            calling,
            *results,
            answered(mode, answer, "The tool has answered. I report it."),
        ),
        mode,
        definitions,
    )


def _history(offers: Sequence[Offer], rng: Random) -> list[Message]:
    """Now and then an earlier exchange, with or without a tool."""
    chance = rng.random()
    if chance < 0.06:
        question, _thought, answer = draw_turn(rng, sums=False)
        return [user(question), assistant(answer)]
    if chance < 0.12:
        offer = rng.choice(offers)
        use = offer.draw_use(rng)
        return [
            user(use.request),
            assistant("", calls=[offer.call(use)]),
            tool_result(use.result),
            assistant(use.answer),
        ]
    return []


def _needs_none(
    offers: Sequence[Offer], opening: Sequence[Message], definitions: tuple[Tool, ...], rng: Random
) -> Dialogue:
    """Tools are on offer, and the question is for the model itself."""
    mode = draw_mode(rng)
    question, thought, answer = draw_turn(rng, sums=not any(offer.calculates for offer in offers))
    return Dialogue(
        (*opening, *_history(offers, rng), user(switched(question, mode, rng)),
         answered(mode, answer, thought)),
        mode,
        definitions,
    )  # fmt: skip


def conversations(rng: Random, *, n: int, n_tools: int) -> list[Dialogue]:
    """`n` dialogues over the same offer of `n_tools` tools and the same system message."""
    offers = draw_offers(rng, n_tools)
    definitions = tuple(offer.tool for offer in offers)
    opening = draw_system(rng, chance=0.35)
    return [
        (_needs_a_call if rng.random() < 0.82 else _needs_none)(offers, opening, definitions, rng)
        for _ in range(n)
    ]
