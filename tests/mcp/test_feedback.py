"""What the MCP server tells of the log, to the official client, over a log that was written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.records import (
    AnswerText,
    Comparison,
    Interaction,
    Rating,
    TokenCounts,
    decode,
    hash_prompt,
)
from qwenkit.mcp.server.build import build_server
from qwenkit.mcp.server.feedback import MAX_SHOWN
from qwenkit.mcp.server.feedback_log import IndexedFeedback, opened
from qwenkit.mcp.server.offer import OfferedModel, OnTokens, Question, Reply

pytestmark = pytest.mark.anyio


class NoModel:
    """A host that has nothing but the log."""

    async def ask(self, question: Question, on_tokens: OnTokens) -> Reply:
        raise NotImplementedError

    async def models(self) -> tuple[OfferedModel, ...]:
        return ()

    async def load_adapter(self, name: str, path: Path, *, replace: bool) -> OfferedModel:
        raise NotImplementedError


def answer(id_: str, content: str, *, day: int = 25, question: str = "How tall is Ararat?") -> Any:
    return Interaction(
        id=id_,
        created_at=f"2026-11-{day}T10:00:00.000000Z",
        source="api",
        model="qwen3-8b",
        prompt_hash=hash_prompt(question),
        template_hash="t",
        finish_reason="stop",
        usage=TokenCounts(prompt=9),
        thread_id="thread",
        messages=({"role": "user", "content": question},),
        answer=AnswerText(content=content, reasoning_content="hm"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "feedback"
    log = FeedbackLog(folder)
    log.interaction(answer("a", "5,137 metres.", day=24))
    log.interaction(answer("b", "Quite tall."))
    log.interaction(answer("c", "x" * (MAX_SHOWN + 1), question="Long?"))
    log.rating(
        Rating(
            id="rating-1",
            created_at="2026-11-25T11:00:00.000000Z",
            answer_id="a",
            source="ui",
            rater="ada",
            thumb="up",
            compared=Comparison(other_id="b", verdict="better"),
        )
    )
    log.close()
    return folder


@pytest.fixture
def connect(folder: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def connected(*, admin: bool = True) -> AsyncIterator[Client]:
        with opened(folder) as look_up:
            server = build_server(
                NoModel(), is_admin=lambda _: admin, feedback=IndexedFeedback(look_up)
            )
            async with Client(server) as client:
                yield client

    return connected


async def test_a_search_gives_questions_answers_and_what_people_thought(connect) -> None:
    async with connect() as client:
        result = await client.call_tool("search_feedback", {"rater": "ada"})

    assert not result.is_error
    (found,) = result.structured_content["answers"]
    assert (found["id"], found["question"]) == ("a", "How tall is Ararat?")
    assert found["answer"] == "5,137 metres."
    assert found["ratings"] == [
        {
            "rater": "ada",
            "created_at": "2026-11-25T11:00:00.000000Z",
            "thumb": "up",
            "compared": {"other_id": "b", "verdict": "better"},
        }
    ]
    assert json.loads(result.content[0].text) == result.structured_content


async def test_a_search_goes_on_page_by_page_and_cuts_what_is_long(connect) -> None:
    async with connect() as client:
        first = (await client.call_tool("search_feedback", {"limit": 2})).structured_content
        rest = {"limit": 2, "cursor": first["next_cursor"]}
        second = (await client.call_tool("search_feedback", rest)).structured_content

    assert [each["id"] for each in (*first["answers"], *second["answers"])] == ["c", "b", "a"]
    assert second["next_cursor"] is None
    assert len(first["answers"][0]["answer"]) < MAX_SHOWN + 10


@pytest.mark.parametrize(
    "arguments",
    [{"since": "soon"}, {"cursor": "x"}, {"limit": 0}, {"thumb": "sideways"}, {"mood": 1}],
)
async def test_what_cannot_be_asked_is_told_to_the_model(connect, arguments) -> None:
    async with connect() as client:
        result = await client.call_tool("search_feedback", arguments)

    assert result.is_error
    assert next(iter(arguments)) in result.content[0].text


async def test_ratings_become_rows_to_train_with(connect) -> None:
    async with connect() as client:
        result = await client.call_tool("export_feedback", {"format": "dpo"})

    told = result.structured_content
    assert (told["n_rows"], told["has_more"]) == (1, False)
    (row,) = told["rows"]
    assert json.loads(result.content[0].text) == row
    assert row["chosen"][0]["content"] == "5,137 metres."
    assert row["rejected"][0]["content"] == "Quite tall."


async def test_an_export_without_rows_says_so(connect) -> None:
    async with connect() as client:
        asked = {"format": "dpo", "since": "2027-01-01"}
        result = await client.call_tool("export_feedback", asked)

    assert "no rows" in result.content[0].text
    assert result.structured_content["rows"] == []


async def test_the_days_of_the_log_can_be_read(connect) -> None:
    async with connect() as client:
        listed = (await client.list_resources()).resources
        log = [each for each in listed if str(each.uri).startswith("qwenkit://log/")]
        day = (await client.read_resource("qwenkit://log/2026-11-24")).contents[0]
        empty = (await client.read_resource("qwenkit://log/2020-01-01")).contents[0]

    assert [(str(each.uri), each.description) for each in log] == [
        ("qwenkit://log/2026-11-25", "2 answers"),
        ("qwenkit://log/2026-11-24", "1 answers"),
    ]
    (line,) = day.text.splitlines()
    assert decode(line) == answer("a", "5,137 metres.", day=24)
    assert json.loads(line)["ratings"][0]["thumb"] == "up"
    assert empty.text == ""


async def test_an_answer_can_be_read_whole(connect) -> None:
    async with connect() as client:
        templates = (await client.list_resource_templates()).resource_templates
        read = (await client.read_resource("qwenkit://log/answers/c")).contents[0]

    assert {each.uri_template for each in templates} == {
        "qwenkit://log/{day}",
        "qwenkit://log/answers/{id}",
    }
    assert json.loads(read.text)["answer"]["content"] == "x" * (MAX_SHOWN + 1)
    assert read.mime_type == "application/json"


@pytest.mark.parametrize(
    "name", ["answers/unknown", "2026-13-01", "20261125", "", "../index.sqlite"]
)
async def test_a_document_of_the_log_that_is_not_there_is_a_protocol_error(connect, name) -> None:
    async with connect() as client:
        with pytest.raises(MCPError, match="no resource"):
            await client.read_resource(f"qwenkit://log/{name}")


async def test_only_admins_are_told_of_the_log(connect) -> None:
    async with connect(admin=False) as client:
        tools = {each.name for each in (await client.list_tools()).tools}
        resources = [str(each.uri) for each in (await client.list_resources()).resources]
        templates = (await client.list_resource_templates()).resource_templates
        with pytest.raises(MCPError):
            await client.read_resource("qwenkit://log/answers/a")
        with pytest.raises(MCPError):
            await client.call_tool("search_feedback", {})

    assert tools == {"ask", "list_models"}
    assert not any(uri.startswith("qwenkit://log/") for uri in resources)
    assert templates == []


async def test_an_index_that_cannot_be_used_is_told(connect, folder) -> None:
    (folder / "index.sqlite").mkdir()

    async with connect() as client:
        result = await client.call_tool("search_feedback", {})
        with pytest.raises(MCPError, match="index"):
            await client.list_resources()

    assert result.is_error
    assert "index.sqlite" in result.content[0].text
