"""Which files of a repository make the model."""

from __future__ import annotations

import pytest

from qwenkit.errors import ModelNotFound, ModelUnsupported
from qwenkit.models.choose import choose_checkpoint, choose_gguf, choose_onnx, quant_label
from qwenkit.models.hub import HubId, parse_hub_id

OFFICIAL = [f"Qwen3-8B-{q}.gguf" for q in ("Q4_K_M", "Q5_0", "Q5_K_M", "Q6_K", "Q8_0")]
SPLIT = [f"BF16/Qwen3-8B-BF16-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]
REPO = "Qwen/Qwen3-8B-GGUF"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen3-8b-q8_0.gguf", "Q8_0"),
        ("Qwen3-8B.IQ4_XS.gguf", "IQ4_XS"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("BF16/Qwen3-8B-BF16-00001-of-00002.gguf", "BF16"),
        ("model-f16.gguf", "F16"),
        ("Qwen3-8B.gguf", ""),
        ("Qwen3-8B-instruct.gguf", ""),
    ],
)
def test_the_quantisation_is_read_from_the_end_of_a_name(name: str, label: str) -> None:
    assert quant_label(name) == label


@pytest.mark.parametrize("quant", ["Q6_K", "q6_k"])
def test_a_named_quantisation_is_taken(quant: str) -> None:
    assert choose_gguf(HubId(REPO, quant=quant), OFFICIAL) == ["Qwen3-8B-Q6_K.gguf"]


def test_without_a_name_q4_k_m_comes_first_and_then_the_next_sensible_one() -> None:
    names = list(OFFICIAL)
    taken = []
    while names:
        [best] = choose_gguf(HubId(REPO), names)
        taken.append(quant_label(best))
        names.remove(best)
    assert taken == ["Q4_K_M", "Q5_K_M", "Q5_0", "Q6_K", "Q8_0"]


def test_all_parts_of_a_split_file_are_taken_in_order() -> None:
    names = [*reversed(SPLIT), *OFFICIAL]
    assert choose_gguf(HubId(REPO, quant="BF16"), names) == SPLIT
    assert choose_gguf(HubId(REPO, path=SPLIT[1]), names) == SPLIT


def test_the_plain_quantisation_wins_over_a_variant_of_it() -> None:
    names = ["m-UD-Q4_K_XL.gguf", "m-Q4_K_XL.gguf"]
    assert choose_gguf(HubId(REPO, quant="Q4_K_XL"), names) == ["m-Q4_K_XL.gguf"]
    assert choose_gguf(HubId(REPO, quant="UD-Q4_K_XL"), names) == ["m-UD-Q4_K_XL.gguf"]
    assert choose_gguf(HubId(REPO, quant="Q4_K_XL"), names[:1]) == ["m-UD-Q4_K_XL.gguf"]


def test_projectors_and_importance_matrices_are_no_models() -> None:
    names = ["mmproj-F16.gguf", "imatrix.gguf", "m.gguf"]
    assert choose_gguf(HubId(REPO), names) == ["m.gguf"]


def test_a_quantisation_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(ModelNotFound, match="Q3_K_S") as caught:
        choose_gguf(HubId(REPO, quant="Q3_K_S"), OFFICIAL)
    assert caught.value.hint == "there are: Q4_K_M, Q5_0, Q5_K_M, Q6_K, Q8_0"


def test_no_gguf_at_all_says_so() -> None:
    with pytest.raises(ModelNotFound) as caught:
        choose_gguf(HubId(REPO), ["README.md"])
    assert "none" in caught.value.hint


def test_a_checkpoint_is_what_lies_at_the_root() -> None:
    wanted = [
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "merges.txt",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    others = ["README.md", "onnx/config.json", "consolidated.safetensors", "pytorch_model.bin"]
    assert choose_checkpoint([*wanted, *others]) == wanted


def test_an_onnx_folder_must_be_named_when_there_are_several() -> None:
    names = ["cpu/genai_config.json", "cpu/model.onnx", "cuda/genai_config.json", "README.md"]
    assert choose_onnx(HubId(REPO, path="cpu"), names) == names[:2]
    with pytest.raises(ModelUnsupported, match="2 ONNX") as caught:
        choose_onnx(HubId(REPO), names)
    assert f"{REPO}/cpu" in caught.value.hint
    with pytest.raises(ModelNotFound, match="npu"):
        choose_onnx(HubId(REPO, path="npu"), names)


@pytest.mark.parametrize(
    ("text", "hub_id"),
    [
        ("Qwen/Qwen3-8B", HubId("Qwen/Qwen3-8B")),
        ("Qwen/Qwen3-8B-GGUF:Q4_K_M", HubId("Qwen/Qwen3-8B-GGUF", quant="Q4_K_M")),
        ("a/b@v1.0:Q8_0", HubId("a/b", revision="v1.0", quant="Q8_0")),
        ("a/b/sub/m-Q8_0.gguf", HubId("a/b", path="sub/m-Q8_0.gguf")),
        ("models/m.gguf", None),
        ("m.gguf", None),
        ("./a/b", None),
        ("/a/b", None),
        ("~/a/b", None),
        ("a", None),
        ("a/b:", None),
        ("a b/c", None),
        ("", None),
    ],
)
def test_a_hub_id_is_told_from_a_path(text: str, hub_id: HubId | None) -> None:
    assert parse_hub_id(text) == hub_id
