from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.errors import InvalidSettings
from qwenkit.mcp.client.added import AddedServers
from qwenkit.mcp.client.config import (
    HttpServer,
    ServerConfig,
    StdioServer,
    load_config,
    parse_config,
)

ENVIRONMENT = {"TOKEN": "s3cret", "EMPTY": ""}


def read(**servers: Any) -> tuple[ServerConfig, ...]:
    return parse_config(json.dumps({"mcpServers": servers}), ENVIRONMENT)


def mistake(**servers: Any) -> str:
    with pytest.raises(InvalidSettings) as caught:
        read(**servers)
    return caught.value.message


def test_a_program_is_read_with_everything_that_it_may_have() -> None:
    (server,) = read(
        files={
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv"],
            "env": {"KEY": "${TOKEN}"},
            "cwd": "/srv",
            "alwaysAllow": ["read_file"],
            "autoApprove": ["list_directory"],
            "disabledTools": ["write_file"],
            "timeout": 5,
        }
    )
    assert server == StdioServer(
        name="files",
        command="npx",
        args=("-y", "@modelcontextprotocol/server-filesystem", "/srv"),
        env={"KEY": "s3cret"},
        cwd="/srv",
        allowed=frozenset({"read_file", "list_directory"}),
        hidden=frozenset({"write_file"}),
        timeout_s=5.0,
    )
    assert server.allows("read_file")
    assert not server.allows("write_file")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "http"),
        ({"type": "http"}, "http"),
        ({"type": "streamable-http"}, "http"),
        ({"type": "streamableHttp"}, "http"),
        ({"type": "sse"}, "sse"),
        ({"url": "https://example.org/sse"}, "sse"),
        ({"url": "https://example.org/sse", "type": "http"}, "http"),
    ],
)
def test_a_url_is_read_as_other_clients_spell_it(fields: dict[str, str], kind: str) -> None:
    (server,) = read(web={"url": "https://example.org/mcp", **fields})
    assert isinstance(server, HttpServer)
    assert server.kind == kind


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${TOKEN}", "s3cret"),
        ("${env:TOKEN}", "s3cret"),
        ("Bearer ${TOKEN}!", "Bearer s3cret!"),
        ("${MISSING:-else}", "else"),
        ("${EMPTY:-else}", "else"),
        ("${TOKEN:-else}", "s3cret"),
        ("${EMPTY}", ""),
        ("$TOKEN and ${}", "$TOKEN and ${}"),
    ],
)
def test_variables_are_put_in(text: str, value: str) -> None:
    (server,) = read(web={"url": "https://example.org", "headers": {"X": text}})
    assert isinstance(server, HttpServer)
    assert server.headers == {"X": value}


def test_secrets_do_not_show_in_a_servers_place_or_representation() -> None:
    web, files = read(
        web={"url": "https://u:${TOKEN}@example.org/x?k=${TOKEN}", "headers": {"X": "${TOKEN}"}},
        files={"command": "run", "args": [], "env": {"X": "${TOKEN}"}},
    )
    assert web.where == "https://example.org/x"
    assert "s3cret" not in repr(web).replace(web.url, "") + repr(files)


@pytest.mark.parametrize(
    ("server", "place"),
    [
        ("x", "mcpServers.a "),
        ({}, "mcpServers.a "),
        ({"command": "x", "url": "http://y"}, "mcpServers.a "),
        ({"command": ""}, "mcpServers.a.command "),
        ({"command": 5}, "mcpServers.a.command "),
        ({"command": "x", "args": "y"}, "mcpServers.a.args "),
        ({"command": "x", "args": ["y", 1]}, "mcpServers.a.args[1] "),
        ({"command": "x\0y"}, "mcpServers.a.command "),
        ({"command": "x", "env": ["y"]}, "mcpServers.a.env "),
        ({"command": "x", "env": {"K": 1}}, "mcpServers.a.env.K "),
        ({"command": "x", "env": {"K": "${MISSING}"}}, "mcpServers.a.env.K "),
        ({"command": "x", "cwd": 1}, "mcpServers.a.cwd "),
        ({"command": "x", "type": "http"}, "mcpServers.a.type "),
        ({"url": "http://y", "type": "stdio"}, "mcpServers.a.type "),
        ({"url": "http://y", "type": "websocket"}, "mcpServers.a.type "),
        ({"url": "http://y", "type": []}, "mcpServers.a.type "),
        ({"url": "ftp://y"}, "mcpServers.a.url "),
        ({"url": "http://"}, "mcpServers.a.url "),
        ({"url": "http://y:99999"}, "mcpServers.a.url "),
        ({"url": "http://[::1"}, "mcpServers.a.url "),
        ({"url": "http://y", "headers": {"A B": "c"}}, "mcpServers.a.headers.A B "),
        ({"url": "http://y", "headers": {"A": "c\r\nD: e"}}, "mcpServers.a.headers.A "),
        ({"command": "x", "disabled": "yes"}, "mcpServers.a.disabled "),
        ({"command": "x", "timeout": 0}, "mcpServers.a.timeout "),
        ({"command": "x", "timeout": 60_000}, "mcpServers.a.timeout "),
        ({"command": "x", "timeout": True}, "mcpServers.a.timeout "),
        ({"command": "x", "alwaysAllow": "y"}, "mcpServers.a.alwaysAllow "),
        ({"command": "x", "autoApprove": [1]}, "mcpServers.a.autoApprove[0] "),
    ],
)
def test_a_mistake_is_named_with_its_place(server: Any, place: str) -> None:
    assert place in mistake(a=server)


def test_all_mistakes_are_named_at_once() -> None:
    said = mistake(a={"command": 1, "args": 2}, b={"url": "x"}, c={"command": "fine"})
    assert all(place in said for place in ("a.command", "a.args", "b.url"))
    assert "mcpServers.c" not in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1"),
        ('{"mcpServers": {,}}', "column 17"),
        ("[]", "object"),
        ("{}", "mcpServers"),
        ('{"servers": {}}', "servers"),
        ('{"mcpServers": []}', "mcpServers"),
        ('{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}', "'a'"),
        ('{"mcpServers": {"a/b": {"command": "x"}}}', "a/b"),
        ('{"mcpServers": {"": {"command": "x"}}}', "name"),
        ("[" * 100_000, "can't be used"),
    ],
)
def test_a_file_that_is_no_list_of_servers_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        parse_config(text, {})
    assert says in caught.value.message


def test_a_server_that_is_off_may_lack_its_variables() -> None:
    off, also_off = read(
        a={"command": "x", "env": {"K": "${MISSING}"}, "disabled": True},
        b={"url": "${MISSING}", "enabled": False},
    )
    assert off.disabled
    assert also_off.disabled


def test_a_star_and_true_allow_every_tool() -> None:
    star, true = read(
        a={"command": "x", "autoApprove": ["*"]}, b={"command": "x", "alwaysAllow": True}
    )
    assert star.allows("anything")
    assert true.allows("anything")


def test_what_only_other_clients_know_is_left_alone() -> None:
    (server,) = read(a={"command": "x", "iconUrl": 5, "description": "…"})
    assert server.name == "a"


def test_a_file_is_read_with_a_byte_order_mark_and_its_absence_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('\ufeff{"mcpServers": {}}', encoding="utf-8")
    assert load_config(path, {}) == ()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidSettings):
        load_config(path, {})
    with pytest.raises(InvalidSettings) as caught:
        load_config(tmp_path / "none.json", {})
    assert "none.json" in caught.value.message
    assert "MCP_CONFIG" in caught.value.hint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["command", "args", "env", "cwd", "url", "type", "headers", "disabled", "timeout"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_stands_there_is_a_server_or_a_named_mistake(value: Any) -> None:
    with suppress(InvalidSettings):
        (server,) = read(a=value)
        assert server.name == "a"
        return
    assert "mcpServers.a" in mistake(a=value)


@given(st.text())
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    with suppress(InvalidSettings):
        parse_config(text, {})


def test_added_servers_are_remembered_for_their_owner_only(tmp_path: Path) -> None:
    server = HttpServer(
        name="web",
        url="https://example.org/${TOKEN}",
        headers={"Authorization": "Bearer ${TOKEN}"},
        allowed=frozenset({"add"}),
        timeout_s=7.0,
    )
    file = AddedServers(tmp_path / "home" / "mcp.json")
    assert file.load() == ()
    file.save([server])
    assert file.load() == (server,)
    assert (tmp_path / "home" / "mcp.json").stat().st_mode & 0o777 == 0o600
    file.save([])
    assert file.load() == ()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"mcpServers": 5}', '{"mcpServers": {"a": {"url": 5}}}']
)
def test_a_damaged_memory_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidSettings) as caught:
        AddedServers(path).load()
    assert str(path) in caught.value.message
