"""A model of this process as the MCP server's host."""

import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine
from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.reader import read_log
from qwenkit.mcp.server.local import LocalHost
from qwenkit.mcp.server.offer import Question

pytestmark = pytest.mark.anyio


def load():
    answers = {
        "": "<think>\nHm.\n</think>\n\nHello there!",
        "poison": "<think>\n\n</think>\n\na\x07",
    }
    backend = ScriptedBackend(answers, n_slots=2, n_ctx=2048)
    backend.failing_tokens = {7}
    template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
    return ChatModel("scripted", Engine(backend).start(), template)


async def silent(n_pieces, thinks):
    pass


async def test_what_it_answers_is_in_the_log_when_the_client_has_it(tmp_path):
    log = FeedbackLog(tmp_path)
    async with LocalHost(load, log=log) as host:
        reply = await host.ask(Question(prompt="hello"), silent)
        (record,) = read_log(tmp_path)
    log.close()
    assert (record.id, record.source, record.model) == (reply.id, "mcp", "scripted")
    assert (record.answer.content, record.answer.reasoning_content) == (reply.text, "Hm.")


async def test_an_answer_that_fails_is_in_the_log_as_far_as_it_came(tmp_path):
    log = FeedbackLog(tmp_path)
    async with LocalHost(load, log=log) as host:
        with pytest.raises(Exception, match="failed"):
            await host.ask(Question(prompt="poison"), silent)
    (record,) = read_log(tmp_path)
    log.close()
    assert (record.answer.content, record.finish_reason) == ("a\x07", "cancelled")


async def test_without_a_log_an_answer_has_no_id():
    async with LocalHost(load) as host:
        assert (await host.ask(Question(prompt="hello"), silent)).id == ""
