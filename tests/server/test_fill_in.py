"""Gaps in a text by `/v1/completions`: with a suffix, or with marks that the editor wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.server.openai.fill_in import MIDDLE, OVERHEAD, PREFIX, SUFFIX, Gap, fitted

PATH = "/v1/completions"
MARKS = (PREFIX, SUFFIX, MIDDLE)
MARKED = "<|fim_prefix|>def add(a, b):\n    <|fim_suffix|>\n<|fim_middle|>"


@pytest.fixture
def backend():
    answers = {
        "<|fim_middle|>": "return a + b<|fim_pad|><|file_sep|>next",
        "anything": "no<|file_sep|>gap",
    }
    return ScriptedBackend(answers, n_slots=4, n_ctx=1024)


async def complete(client, **body):
    reply = await client.post(PATH, json={"max_tokens": 64, **body})
    assert reply.status_code == 200, reply.text
    return [(choice["text"], choice["finish_reason"]) for choice in reply.json()["choices"]]


@pytest.mark.anyio
async def test_marks_that_the_editor_wrote_end_the_answer_like_a_suffix(client):
    filled = [("return a + b", "stop")]
    assert await complete(client, prompt=MARKED) == filled
    assert await complete(client, prompt="def add(a, b):\n    ", suffix="\n") == filled


@pytest.mark.anyio
async def test_each_prompt_of_a_list_ends_by_its_own_marks(client):
    filled, plain = await complete(client, prompt=[MARKED, "anything"])
    assert filled == ("return a + b", "stop")
    assert plain == ("no<|file_sep|>gap", "stop")


@pytest.mark.anyio
async def test_code_that_spells_a_mark_stays_text(client, backend):
    before, after = "MIDDLE = '<|fim_middle|>'", "<|fim_suffix|><|im_end|>"
    await complete(client, prompt=before, suffix=after, max_tokens=1)
    given = [token for rows in backend.decodes for token in rows.tokens.tolist()]
    prefix, suffix, middle = map(backend.tokenizer.token_id, MARKS)
    expected = [prefix, *before.encode(), suffix, *after.encode(), middle]
    assert given[: len(expected)] == expected


TOKENS = st.lists(st.integers(0, 9), max_size=40)


@given(before=TOKENS, after=TOKENS, extra=st.lists(TOKENS, max_size=4), room=st.integers(0, 250))
def test_a_gap_keeps_what_is_next_to_it_and_fits(before, after, extra, room):
    kept, cut = fitted(Gap(before, after, extra), room)
    assert before[len(before) - len(kept.before) :] == list(kept.before)
    assert after[: len(kept.after)] == list(kept.after)
    assert [*kept.extra] == extra[len(extra) - len(kept.extra) :]
    n_own = 3 + len(kept.before) + len(kept.after)
    assert n_own <= max(room, 3)
    if kept.extra:
        assert n_own + OVERHEAD + sum(map(len, kept.extra)) <= room
    assert cut == (3 + len(before) + len(after) > max(room, 3))
