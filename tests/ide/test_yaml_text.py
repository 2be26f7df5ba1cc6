from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.errors import InvalidSettings
from qwenkit.ide.yaml_text import dumped, merged

DEFAULTS = {"name": "Main Config", "version": "1.0.0"}
OURS = {"name": "qwenkit", "model": "m", "roles": ["chat"], "options": {"tokens": 1}}
WANTED = {"models": [OURS, {"name": "other", "model": "m"}]}

USERS = """\
# my own file
name: Mine # by hand
version: 2.0.0

models:
  # the one at work
  - name: work   # careful
    model: 'gpt-4'
    roles: [chat, edit]

  - name: qwenkit
    model: old # was 4B
    options:
      heat: 0.5 # mine

# be nice
rules:
  - |
    Be nice.
    Be brief.
"""


def merge(text: str, wanted: dict[str, Any] | None = None) -> str:
    return merged(text, WANTED if wanted is None else wanted, defaults=DEFAULTS)


def test_an_empty_file_gets_everything() -> None:
    assert yaml.safe_load(merge("")) == DEFAULTS | WANTED


def test_a_file_of_comments_keeps_them() -> None:
    assert merge("# hello\n").startswith("# hello\nname: Main Config\n")


def test_what_the_user_wrote_stays_with_every_comment() -> None:
    lines = merge(USERS).splitlines()
    for line in USERS.splitlines():
        assert line in lines or line == "    model: old # was 4B", line
    assert "    model: m # was 4B" in lines


def test_an_entry_of_the_same_name_is_changed_and_keeps_what_it_had_beside() -> None:
    models = yaml.safe_load(merge(USERS))["models"]
    assert [model["name"] for model in models] == ["work", "qwenkit", "other"]
    assert models[1] == OURS | {"options": {"heat": 0.5, "tokens": 1}}


def test_the_users_name_and_version_win_over_the_defaults() -> None:
    read = yaml.safe_load(merge(USERS))
    assert (read["name"], read["version"]) == ("Mine", "2.0.0")


def test_merging_twice_changes_nothing_more() -> None:
    once = merge(USERS)
    assert merge(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "models: []\n",
        "models:\nrules: []\n",
        "models: # none yet\nrules: []\n",
        "models: [{name: a, model: b}]\n",
        "{name: a, models: [{name: qwenkit, roles: []}]}\n",
        "models:\n- name: a\n  model: b\n",
        "models:\n    - name: qwenkit\n      roles:\n        - edit # no\nx: 1",
        "models:\n  - name: a\n    prompt: |\n      hello\n\n\n# end\nx: 1\n",
        "models:\n  - name: a\n    prompt: |+\n      hello\n\n\nx: 1\n",
        "---\nmodels:\n  - uses: some/block\n...\n",
        "base: &base\n  a: 1\nmodels:\n  - name: b\n    options: *base\n",
    ],
)
def test_every_way_to_write_a_list_can_be_merged_into(text: str) -> None:
    before, after = yaml.safe_load(text), yaml.safe_load(merge(text))
    there = [each for each in before["models"] or () if each.get("name") != "qwenkit"]
    named = {each.get("name"): each for each in after["models"]}
    assert all(each in after["models"] for each in there)
    assert named["qwenkit"].items() >= OURS.items()
    assert named["other"]["model"] == "m"
    assert {key: after[key] for key in before if key != "models"} == {
        key: value for key, value in before.items() if key != "models"
    }


def test_windows_line_ends_stay() -> None:
    text = merge("models:\r\n  - name: a\r\n    model: b\r\n")
    assert text.count("\n") == text.count("\r\n")


@pytest.mark.parametrize("text", ["- a\n", "a\n", "a: [\n", "a: 1\n---\nb: 2\n", "a: &x *x\n"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettings):
        merge(text)


def test_a_list_that_begins_elsewhere_by_an_alias_is_refused() -> None:
    text = "a: &x\n  name: qwenkit\n  model: old\nb:\n  models: 1\nmodels:\n  - *x\n  - name: z\n"
    with pytest.raises(InvalidSettings, match="anchors"):
        merge(text)


KEYS = st.sampled_from(["models", "rules", "name", "x", "y: z", "on"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.text("ab:# -'\"\n{", max_size=6),
)
ITEMS = st.fixed_dictionaries({"name": st.sampled_from(["qwenkit", "mine"]), "model": SCALARS})
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(KEYS, SCALARS))


@settings(max_examples=25)
@given(
    users=st.dictionaries(KEYS, VALUES, max_size=4),
    models=st.lists(ITEMS, max_size=3, unique_by=lambda item: item["name"]),
    flow=st.sampled_from([True, False, None]),
    commented=st.booleans(),
)
def test_a_merge_changes_what_was_asked_and_nothing_else(
    users: dict[str, Any], models: list[dict[str, Any]], flow: bool | None, commented: bool
) -> None:
    before = users | {"models": models}
    text = yaml.safe_dump(before, default_flow_style=flow, sort_keys=False)
    text = f"# above\n{text}# below\n" if commented else text
    result = merge(text)
    after = yaml.safe_load(result)
    assert {key: value for key, value in after.items() if key != "models"} == {
        **{key: value for key, value in DEFAULTS.items() if key not in before},
        **{key: value for key, value in before.items() if key != "models"},
    }
    assert [each for each in after["models"] if each["name"] == "mine"] == [
        each for each in models if each["name"] == "mine"
    ]
    assert OURS in after["models"]
    assert merge(result) == result
    if commented:
        assert "# above" in result
        assert "# below" in result


def test_lists_are_written_below_their_key() -> None:
    assert dumped({"a": [{"b": 1, "c": [2]}]}) == "a:\n  - b: 1\n    c:\n      - 2\n"
