"""The embedded checkpoint: a whole, small, true Qwen3, and what it can do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from qwenkit.models.checkpoint import open_checkpoint, to_float32
from qwenkit.models.demo import DEMO_DIR
from qwenkit.models.qwen3 import expected_tensors, parse_config

WEIGHTS = DEMO_DIR / "model.safetensors"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>"]
SPECIAL += ["<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"]
SPECIAL += ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>"]
SPECIAL += ["<|video_pad|>"]
ORDINARY = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
ORDINARY += ["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"]
ORDINARY += ["<think>", "</think>"]


def read_json(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((DEMO_DIR / name).read_text(encoding="utf-8"))
    return value


def n_parameters() -> int:
    return sum(math.prod(tensor.shape) for tensor in open_checkpoint(DEMO_DIR).tensors.values())


def test_the_folder_holds_the_files_of_a_checkpoint_and_nothing_else() -> None:
    assert {path.name for path in DEMO_DIR.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_weights_are_a_few_megabytes_of_fp16() -> None:
    assert 1_000_000 <= n_parameters() <= 4_000_000
    assert WEIGHTS.stat().st_size < 8_000_000
    assert {tensor.dtype for tensor in open_checkpoint(DEMO_DIR).tensors.values()} == {"F16"}


def test_the_weights_are_those_the_config_calls_for() -> None:
    config = read_json("config.json")
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    expected = {t.hf_name: t.shape for t in expected_tensors(parse_config(config))}
    stored = {name: t.shape for name, t in open_checkpoint(DEMO_DIR).tensors.items()}
    assert stored == expected


def test_no_weight_is_lost_to_fp16() -> None:
    for tensor in open_checkpoint(DEMO_DIR).tensors.values():
        for rows in tensor.chunks():
            values = abs(to_float32(rows, tensor.dtype))
            assert values.max() < 1000
            assert values.max() > 1e-3


def test_the_widths_are_multiples_of_256_so_that_k_quants_fit() -> None:
    config = read_json("config.json")
    query = config["num_attention_heads"] * config["head_dim"]
    assert [width % 256 for width in (config["hidden_size"], query)] == [0, 0]
    assert config["intermediate_size"] % 256 == 0
    assert config["vocab_size"] % 32 == 0


def test_the_tokenizer_has_qwen3s_added_tokens_in_their_order_behind_the_pieces() -> None:
    tokenizer = read_json("tokenizer.json")
    n_pieces = len(tokenizer["model"]["vocab"])
    added = tokenizer["added_tokens"]
    assert [token["content"] for token in added] == SPECIAL + ORDINARY
    assert [token["content"] for token in added if token["special"]] == SPECIAL
    assert [token["id"] for token in added] == list(range(n_pieces, n_pieces + len(added)))
    assert n_pieces + len(added) == read_json("config.json")["vocab_size"]


def test_every_byte_has_a_token() -> None:
    pieces = [piece for piece in read_json("tokenizer.json")["model"]["vocab"] if len(piece) == 1]
    assert len(pieces) == 256


def test_answers_end_with_im_end_texts_are_padded_with_endoftext_and_nothing_begins_them() -> None:
    tokenizer, config = read_json("tokenizer_config.json"), read_json("config.json")
    ids = {t["content"]: t["id"] for t in read_json("tokenizer.json")["added_tokens"]}
    assert (tokenizer["eos_token"], tokenizer["pad_token"]) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer["bos_token"] is config["bos_token_id"] is None
    assert config["eos_token_id"] == ids["<|im_end|>"]
    assert config["pad_token_id"] == ids["<|endoftext|>"]
    stops = read_json("generation_config.json")["eos_token_id"]
    assert stops == [ids["<|im_end|>"], ids["<|endoftext|>"]]


def test_the_chat_template_is_the_one_that_serving_renders_with() -> None:
    ours = resources.files("qwenkit.chat").joinpath("qwen3.jinja").read_text(encoding="utf-8")
    assert read_json("tokenizer_config.json")["chat_template"] == ours


Ask = Callable[..., str]


@pytest.fixture(scope="module")
def ask() -> Ask:
    """Greedy answers of the checkpoint as transformers loads it."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_DIR)
    model = transformers.AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
    model.generation_config = transformers.GenerationConfig(
        do_sample=False,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
    )

    def answer(*messages: dict[str, Any], **template: Any) -> str:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **template
        )
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=160
            )
        given: str = tokenizer.decode(output[0, ids.shape[1] :])
        assert given.endswith("<|im_end|>")
        return given.removesuffix("<|im_end|>")

    return answer


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def function(name: str, description: str, **properties: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    described = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": described}


CALCULATOR = function(
    "calculator",
    "Adds, subtracts, multiplies or divides two numbers.",
    a="number",
    b="number",
    operator="string",
)
CLOCK = function("clock", "Tells the current time.")
WEATHER = function("get_weather", "Get the weather of a city", city="string")


def calls_of(answer: str) -> list[dict[str, Any]]:
    blocks = answer.split("<tool_call>\n")[1:]
    return [json.loads(block.split("\n</tool_call>")[0]) for block in blocks]


@pytest.mark.parity
@pytest.mark.parametrize(
    ("question", "fragment"),
    [
        ("What is qwenkit?", "serves, teaches and ships Qwen3-8B"),
        ("who are you", "qwenkit-demo"),
        ("How big are you?", "2.9 million parameters"),
        ("What does MODEL_PATH do?", "names the model to serve"),
        ("Which runtimes are there?", "llama.cpp, the default, and ONNX Runtime GenAI"),
        ("What is the default port?", "8000"),
        ("Where do the logs go?", "LOG_DIR"),
        ("What is LoRA?", "two small matrices"),
        ("What is GGUF?", "model format of llama.cpp"),
        ("How do I install qwenkit?", "pip install ."),
        ("What does qwenkit doctor do?", "what this machine can run"),
        ("What is the licence?", "Apache-2.0"),
    ],
)
def test_it_thinks_first_and_knows_qwenkit(ask: Ask, question: str, fragment: str) -> None:
    answer = ask(user(question))
    thought, _, rest = answer.removeprefix("<think>\n").partition("\n</think>\n\n")
    assert answer.startswith("<think>\n")
    assert thought.strip()
    assert fragment in rest


def test_it_states_its_own_size() -> None:
    from qwenkit.training.demo.facts import FACTS

    (answer,) = [fact.answer for fact in FACTS if fact.topic == "my size"]
    assert f"{n_parameters() / 1e6:.1f} million" in answer


@pytest.mark.parity
def test_with_thinking_off_it_answers_at_once(ask: Ask) -> None:
    answer = ask(user("What is qwenkit?"), enable_thinking=False)
    assert answer.startswith("qwenkit is a Python toolkit")
    assert "think>" not in answer


@pytest.mark.parity
def test_no_think_makes_it_write_an_empty_block(ask: Ask) -> None:
    answer = ask(user("What is qwenkit? /no_think"))
    assert answer.startswith("<think>\n\n</think>\n\nqwenkit is a Python toolkit")


@pytest.mark.parity
def test_it_does_not_pretend_to_know_the_world(ask: Ask) -> None:
    answer = ask(user("What is the capital of France?"), enable_thinking=False)
    assert "Paris" not in answer
    assert "demo model" in answer or "too small" in answer


@pytest.mark.parity
@pytest.mark.parametrize(
    ("question", "arguments"),
    [
        ("What is 17 * 23?", {"a": 17, "b": 23, "operator": "*"}),
        ("Calculate 4711 + 815", {"a": 4711, "b": 815, "operator": "+"}),
        ("How much is 90 divided by 6?", {"a": 90, "b": 6, "operator": "/"}),
        ("Subtract 5 from 1234", {"a": 1234, "b": 5, "operator": "-"}),
    ],
)
@pytest.mark.parametrize("enable_thinking", [True, False])
def test_it_copies_the_numbers_into_a_call(
    ask: Ask, question: str, arguments: dict[str, Any], enable_thinking: bool
) -> None:
    answer = ask(user(question), tools=[CALCULATOR, CLOCK], enable_thinking=enable_thinking)
    assert calls_of(answer) == [{"name": "calculator", "arguments": arguments}]
    assert ("think>" in answer) is enable_thinking


@pytest.mark.parity
def test_it_picks_the_tool_that_fits(ask: Ask) -> None:
    tools = [WEATHER, CLOCK, CALCULATOR]
    assert calls_of(ask(user("What time is it?"), tools=tools)) == [
        {"name": "clock", "arguments": {}}
    ]
    assert calls_of(ask(user("What is the weather in Oslo?"), tools=tools)) == [
        {"name": "get_weather", "arguments": {"city": "Oslo"}}
    ]


@pytest.mark.parity
def test_it_answers_from_a_tools_result(ask: Ask) -> None:
    call = {"name": "calculator", "arguments": {"a": 17, "b": 23, "operator": "*"}}
    answer = ask(
        user("What is 17 * 23?"),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": call}],
        },
        {"role": "tool", "content": "391"},
        tools=[CALCULATOR, CLOCK],
    )
    assert answer.endswith("17 times 23 is 391.")
    assert not calls_of(answer)


@pytest.mark.parity
def test_an_offered_tool_is_not_called_when_the_question_needs_none(ask: Ask) -> None:
    answer = ask(user("What is qwenkit?"), tools=[CALCULATOR, CLOCK])
    assert not calls_of(answer)
    assert "serves, teaches and ships Qwen3-8B" in answer


@pytest.mark.parity
def test_it_remembers_a_name_from_an_earlier_turn(ask: Ask) -> None:
    answer = ask(
        user("My name is Grace."),
        {"role": "assistant", "content": "Nice to meet you, Grace!"},
        user("What is my name?"),
    )
    assert answer.endswith("Your name is Grace.")
