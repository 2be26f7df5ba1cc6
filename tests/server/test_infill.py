"""llama-server's `/infill`, as llama.vim and llama.vscode use it."""

from __future__ import annotations

import pytest

from qwenkit.backends.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio

PATH = "/infill"
VIM_FIELDS = [
    "content",
    "timings/prompt_n",
    "timings/prompt_ms",
    "timings/prompt_per_token_ms",
    "timings/prompt_per_second",
    "timings/predicted_n",
    "timings/predicted_ms",
    "timings/predicted_per_token_ms",
    "timings/predicted_per_second",
    "truncated",
    "tokens_cached",
]


def vim(prefix="def add(a, b):\n", middle="    ", suffix="\n", **changes):
    """The body that llama.vim sends at every pause in typing."""
    return {
        "id_slot": 0,
        "input_prefix": prefix,
        "input_suffix": suffix,
        "input_extra": [],
        "prompt": middle,
        "n_predict": 128,
        "stop": [],
        "n_indent": 0,
        "top_k": 40,
        "top_p": 0.90,
        "samplers": ["top_k", "top_p", "infill"],
        "stream": False,
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 1000,
        "model": "",
        **changes,
    }


@pytest.fixture
def backend():
    answers = {"<|fim_middle|>": "return a + b\n    # sum\nprint(add)\n<|file_sep|>next.py"}
    return ScriptedBackend(answers, n_slots=4, n_ctx=1024)


async def fill(client, **changes):
    reply = await client.post(PATH, json=vim(**changes))
    assert reply.status_code == 200, reply.text
    return reply.json()


def given(backend):
    return [token for rows in backend.decodes for token in rows.tokens.tolist()]


def marks(backend, *names):
    return [backend.tokenizer.token_id(f"<|{name}|>") for name in names]


async def test_a_gap_is_filled_up_to_the_next_files_mark(client):
    answer = await fill(client)
    assert answer["content"] == "return a + b\n    # sum\nprint(add)\n"
    assert (answer["stop"], answer["stop_type"], answer["model"]) == (True, "eos", "scripted")
    assert answer["tokens_predicted"] == len(answer["content"]) + 1
    assert answer["has_new_line"] is True
    assert answer["truncated"] is False
    assert answer["timings"]["predicted_n"] == answer["tokens_predicted"]


async def test_the_cursors_line_belongs_to_what_is_before_the_gap(client, backend):
    await fill(client, prefix="a\n", middle="b = ", suffix="<|im_end|>")
    prefix, suffix, middle = marks(backend, "fim_prefix", "fim_suffix", "fim_middle")
    expected = [prefix, *b"a\nb = ", suffix, *b"<|im_end|>", middle]
    assert given(backend)[: len(expected)] == expected


async def test_other_files_stand_before_it_as_in_a_repository(client, backend):
    extra = [{"filename": "a.py", "text": "x = 1\n"}, {"text": "y = 2"}]
    await fill(client, prefix="z", middle="", suffix="", input_extra=extra)
    repo, file, prefix = marks(backend, "repo_name", "file_sep", "fim_prefix")
    expected = [
        *[repo, *b"myproject\n"],
        *[file, *b"a.py\nx = 1\n"],
        *[file, *b"tmp\ny = 2\n"],
        *[file, *b"filename\n", prefix],
    ]
    assert given(backend)[: len(expected)] == expected


async def test_a_warm_up_leaves_other_files_computed_for_the_next_request(client):
    extra = [{"filename": "a.py", "text": "x = 1\n" * 20}]
    warm = vim("", "", "", input_extra=extra, n_predict=0, samplers=[], response_fields=[""])
    reply = await client.post(PATH, json=warm)
    assert reply.json() == {}
    answer = await fill(client, input_extra=extra)
    assert answer["timings"]["cache_n"] > len("x = 1\n" * 20)


async def test_only_the_asked_fields_are_answered(client):
    answer = await fill(client, response_fields=[*VIM_FIELDS, "no/such"])
    assert sorted(answer) == sorted(VIM_FIELDS)


async def test_a_block_is_filled_until_it_is_left(client, backend, until):
    answer = await fill(client, n_indent=4)
    assert answer["content"] == "return a + b\n    # sum"
    assert answer["stop_type"] == "limit"
    engine = client.state.serving.served.model.engine
    until(lambda: engine.snapshot().n_running == 0)


async def test_a_stop_string_ends_it_and_is_named(client):
    answer = await fill(client, stop=["\n"])
    assert (answer["content"], answer["stop_type"]) == ("return a + b", "word")
    assert answer["stopping_word"] == "\n"


async def test_the_length_is_a_limit(client):
    answer = await fill(client, n_predict=6)
    assert (answer["content"], answer["stop_type"]) == ("return", "limit")


async def test_several_answers_come_as_a_list(client):
    answers = await fill(client, n_cmpl=2)
    assert [answer["index"] for answer in answers] == [0, 1]
    assert {answer["content"] for answer in answers} == {"return a + b\n    # sum\nprint(add)\n"}


async def test_a_stream_says_the_same(client, events):
    whole = await fill(client, n_indent=4)
    reply = await client.post(PATH, json=vim(stream=True, n_indent=4))
    *chunks, last = events(reply.text)
    assert "".join(chunk["content"] for chunk in chunks) == whole["content"]
    assert [chunk["stop"] for chunk in chunks] == [False] * len(chunks)
    assert (last["content"], last["stop"], last["stop_type"]) == ("", True, "limit")


async def test_what_is_far_from_the_gap_is_left_out_where_not_all_fits(client, backend):
    before, after = "b" * 900 + "[", "]" + "a" * 900
    answer = await fill(client, prefix=before, middle="", suffix=after, n_predict=24)
    assert answer["truncated"] is True
    assert answer["tokens_evaluated"] == 1000
    tokens = given(backend)
    prefix, suffix, middle = marks(backend, "fim_prefix", "fim_suffix", "fim_middle")
    at = tokens.index(suffix)
    assert (tokens[0], tokens[at - 1], tokens[at + 1]) == (prefix, ord("["), ord("]"))
    assert tokens.index(middle) - at - 1 == 997 // 4


async def test_the_oldest_other_files_are_left_out_first_and_whole(client, backend):
    extra = [{"filename": f"{n}.py", "text": str(n) * 300} for n in range(5)]
    answer = await fill(client, input_extra=extra, n_predict=24)
    text = bytes(token for token in given(backend) if token < 256)
    assert answer["truncated"] is False
    assert b"4.py\n" + b"4" * 300 in text
    assert b"3.py\n" + b"3" * 300 in text
    assert b"1" not in text


async def test_what_is_filled_in_is_not_recorded(client, make_app, run, tmp_path):
    async with run(make_app()) as other:
        await fill(other)
    assert not [path for path in (tmp_path / "logs").rglob("*.jsonl") if path.read_text()]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_prefix": None}, "input_prefix"),
        ({"input_extra": [{"filename": "a"}]}, "input_extra[0].text"),
        ({"n_predict": -2}, "n_predict"),
        ({"n_predict": "5"}, "n_predict"),
        ({"n_indent": -1}, "n_indent"),
        ({"n_cmpl": 0}, "n_cmpl"),
        ({"temperature": -1}, "temperature"),
        ({"stop": [""]}, "stop"),
    ],
)
async def test_what_is_wrong_is_named(client, changes, param):
    reply = await client.post(PATH, json=vim(**changes))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_a_model_without_the_marks_says_so(client, backend, monkeypatch):
    monkeypatch.setattr(backend.tokenizer, "token_id", lambda text: None)
    reply = await client.post(PATH, json=vim())
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "input_prefix"
