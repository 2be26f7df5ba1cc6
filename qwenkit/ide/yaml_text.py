"""Changes a YAML text where it must change and nowhere else: comments, order and quotes stay.

Knows YAML, by the marks that PyYAML gives its nodes; not what the text is for. Every result is
read again and compared with what was meant, so that a text that is too clever to be changed in
place is refused and never damaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from qwenkit.errors import InvalidSettings

NAME = "name"
"""Mappings in a list are the same one when this key of theirs says the same."""
MAX_CHANGES = 1000

_Pair: TypeAlias = tuple[yaml.Node, yaml.Node]


def merged(text: str, wanted: Mapping[str, Any], *, defaults: Mapping[str, Any]) -> str:
    """The text with all that is wanted in it, and with all that was there beside it.

    Args:
        text: A YAML document whose root is a mapping, or nothing.
        wanted: Keys that the root shall have. Mappings are merged; of a list of mappings with
            names, each is merged with the one of its name, or added; anything else is replaced.
        defaults: Keys that it gets where it has none of that name.

    Raises:
        InvalidSettings: The text is no such document, or can't be changed in place.
    """
    before = _read(text)
    wanted = {key: value for key, value in defaults.items() if key not in before} | dict(wanted)
    for _ in range(MAX_CHANGES):
        change = _next_change(text, wanted)
        if change is None:
            break
        text = change.applied(text)
    if _read(text) != _joined(before, wanted):
        raise _too_clever()
    return text


def dumped(value: Any) -> str:
    """A value as YAML in the style that people write."""
    text: str = yaml.dump(
        value, Dumper=_Indented, sort_keys=False, allow_unicode=True, width=10_000
    )
    return text


def _too_clever() -> InvalidSettings:
    return InvalidSettings(
        "the file can't be changed in place: it shares parts by anchors, or repeats keys",
        hint="print the configuration without --write, and paste it",
    )


@dataclass(frozen=True, slots=True)
class _Change:
    start: int
    end: int
    new: str

    def applied(self, text: str) -> str:
        new = self.new.replace("\n", "\r\n") if "\r\n" in text else self.new
        return text[: self.start] + new + text[self.end :]


class _Indented(yaml.SafeDumper):
    """Indents the items of a list below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _read(text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise InvalidSettings(f"the file is no YAML: {_complaint(exc)}") from exc
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidSettings("the file is no mapping of names to values")
    return value


def _complaint(exc: yaml.YAMLError) -> str:
    return " ".join(str(exc).split())


def _joined(there: Any, wanted: Any) -> Any:
    """What the text should say in the end, computed without any text."""
    if isinstance(there, dict) and isinstance(wanted, Mapping):
        return there | {key: _joined(there.get(key), value) for key, value in wanted.items()}
    if isinstance(there, list) and _is_named(wanted):
        return _joined_lists(there, wanted)
    return wanted


def _joined_lists(there: list[Any], wanted: Sequence[Mapping[str, Any]]) -> list[Any]:
    new = {item[NAME]: item for item in wanted}
    joined = []
    for item in there:
        name = item.get(NAME) if isinstance(item, dict) else None
        joined.append(_joined(item, new.pop(name)) if _hashable(name) in new else item)
    return [*joined, *new.values()]


def _hashable(name: Any) -> str | None:
    return name if isinstance(name, str) else None


def _is_named(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, Mapping) and NAME in item for item in value)
    )


def _next_change(text: str, wanted: Mapping[str, Any]) -> _Change | None:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as exc:
        raise InvalidSettings(f"the file can't be changed in place: {_complaint(exc)}") from exc
    if not isinstance(root, yaml.MappingNode):
        start = "" if not text or text.endswith("\n") else "\n"
        return _Change(len(text), len(text), start + dumped(dict(wanted)))
    return _in_mapping(text, root, wanted)


def _in_mapping(text: str, node: yaml.MappingNode, wanted: Mapping[str, Any]) -> _Change | None:
    for key, value in wanted.items():
        pair = _pair(node, key)
        if pair is None:
            return _added_key(text, node, key, value)
        if change := _in_pair(text, node, pair, value):
            return change
    return None


def _in_pair(text: str, parent: yaml.MappingNode, pair: _Pair, value: Any) -> _Change | None:
    child = pair[1]
    if isinstance(value, Mapping) and isinstance(child, yaml.MappingNode):
        return _in_mapping(text, child, value)
    if _is_named(value) and isinstance(child, yaml.SequenceNode) and child.value:
        return _in_list(text, child, value)
    return None if _value(child) == value else _replaced(parent, pair, value)


def _in_list(
    text: str, node: yaml.SequenceNode, wanted: Sequence[Mapping[str, Any]]
) -> _Change | None:
    there = {_name(item): item for item in node.value if isinstance(item, yaml.MappingNode)}
    for item in wanted:
        found = there.get(item[NAME])
        if found is None:
            return _added_item(text, node, item)
        if change := _in_mapping(text, found, item):
            return change
    return None


def _pair(node: yaml.MappingNode, key: str) -> _Pair | None:
    found = [pair for pair in node.value if _value(pair[0]) == key]
    return found[-1] if found else None


def _name(node: yaml.MappingNode) -> str | None:
    pair = _pair(node, NAME)
    return _hashable(_value(pair[1])) if pair is not None else None


def _value(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _replaced(parent: yaml.MappingNode, pair: _Pair, value: Any) -> _Change:
    key, child = pair
    if parent.flow_style:
        return _Change(child.start_mark.index, _end(child), _flow(value))
    new = _shifted(dumped({_value(key): value}), key.start_mark.column).strip()
    return _Change(key.start_mark.index, max(_end(child), _end(key) + 1), new)


def _added_key(text: str, node: yaml.MappingNode, key: str, value: Any) -> _Change:
    if node.flow_style:
        return _added_to_flow(node, f"{_flow(key)}: {_flow(value)}")
    return _added_lines(text, node, dumped({key: value}), node.value[0][0].start_mark.column)


def _added_item(text: str, node: yaml.SequenceNode, item: Mapping[str, Any]) -> _Change:
    if node.flow_style:
        return _added_to_flow(node, _flow(dict(item)))
    dash = _first_dash(text, node)
    column = dash - (text.rfind("\n", 0, dash) + 1)
    return _added_lines(text, node, dumped([dict(item)]), column)


def _first_dash(text: str, node: yaml.SequenceNode) -> int:
    start: int = node.start_mark.index
    if text[start] == "-":
        return start
    # The list begins with an anchor or a tag. Behind an alias its first item is elsewhere.
    dash = text.rfind("-", start, node.value[0].start_mark.index)
    if dash < 0:
        raise _too_clever()
    return dash


def _added_to_flow(node: yaml.CollectionNode, new: str) -> _Change:
    end = _end(node) - 1
    return _Change(end, end, f", {new}" if node.value else new)


def _added_lines(text: str, node: yaml.Node, new: str, column: int) -> _Change:
    lines = _shifted(new, column).rstrip("\n")
    end = _end(node)
    if text[end - 1] == "\n":  # behind a block of text, which its line end belongs to
        return _Change(end, end, lines + "\n")
    line_end = text.find("\n", end)
    at = len(text) if line_end < 0 else line_end
    at -= text[at - 1] == "\r"
    return _Change(at, at, "\n" + lines)


def _shifted(text: str, column: int) -> str:
    return "".join(" " * column + line for line in text.splitlines(keepends=True))


def _flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _end(node: yaml.Node) -> int:
    """Where a node's own text ends: without the comments and blank lines that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        # What an alias stands for is elsewhere in the text, so the later end of a pair counts.
        parts = [part for item in node.value for part in _parts(item)]
        return max(map(_end, parts), default=node.start_mark.index)
    end: int = node.end_mark.index
    return end


def _parts(item: yaml.Node | _Pair) -> tuple[yaml.Node, ...]:
    return item if isinstance(item, tuple) else (item,)
