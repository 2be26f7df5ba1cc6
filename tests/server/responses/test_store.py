"""The store's bounds, and several processes that share it."""

import sqlite3
import stat
from dataclasses import replace

import pytest

from qwenkit.errors import InvalidRequest, LogUnreadable
from qwenkit.server.openai.responses import store as store_module
from qwenkit.server.openai.responses.kept import KeptResponse
from qwenkit.server.openai.responses.store import ResponseStore

DAY = 24 * 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_store(tmp_path, clock):
    stores = []

    def open_store(*, max_bytes=10_000, keep_s=DAY):
        path = tmp_path / "logs" / "responses.sqlite"
        stores.append(ResponseStore(path, max_bytes=max_bytes, keep_s=keep_s, clock=clock))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def kept(name, previous=None, root=None, text=""):
    return KeptResponse(
        id=name,
        owner="",
        previous_id=previous,
        root_id=root or name,
        response={"id": name, "output": [{"id": f"msg_{name}", "text": text}]},
        items=[{"id": f"in_{name}", "type": "message"}],
    )


def anyones(_owner):
    return True


def ids(chain):
    return None if chain is None else [each.id for each in chain]


def test_what_is_put_in_comes_out_in_another_process_too(open_store):
    one, other = open_store(), open_store()
    assert one.put(kept("a"))
    assert other.get("a") == kept("a")
    assert other.put(kept("b", previous="a", root="a"))
    assert ids(one.chain("b")) == ["a", "b"]
    assert one.get("c") is None


def test_items_lead_to_their_response(open_store):
    store = open_store()
    store.put(kept("a"))
    found = store.items(["msg_a", "in_a", "msg_x"], anyones)
    assert found == {each["id"]: each for each in kept("a").said()}
    store.delete("a")
    assert store.items(["msg_a"], anyones) == {}


def test_of_an_item_that_several_responses_have_the_newest_one_of_ones_own_counts(open_store):
    store = open_store()
    for owner, text in [("ada", "first"), ("ada", "second"), ("bob", "third")]:
        item = {"id": "msg", "text": text}
        response = {"output": [item]}
        store.put(replace(kept(text, text=text), owner=owner, response=response))
    for owner, text in [("ada", "second"), ("bob", "third")]:
        assert store.items(["msg"], owner.__eq__)["msg"]["text"] == text
    assert store.items(["msg"], "eve".__eq__) == {}


def test_references_to_more_than_can_be_read_are_refused(open_store, monkeypatch):
    store = open_store(max_bytes=10**6)
    for name in ("a", "b"):
        store.put(kept(name, text="x" * 600))
    monkeypatch.setattr(store_module, "MAX_CHAIN_BYTES", 1000)
    assert len(store.items(["msg_a", "in_a"], anyones)) == 2
    with pytest.raises(InvalidRequest) as caught:
        store.items(["msg_a", "msg_b"], anyones)
    assert caught.value.param == "input"


def test_over_its_size_it_lets_go_of_what_was_not_used_for_longest(open_store):
    store = open_store(max_bytes=1000)
    for name in ("a", "b", "c"):
        store.put(kept(name, text="x" * 200))
    store.chain("a")
    store.put(kept("d", text="x" * 200))
    there = [name for name in "abcd" if store.get(name) is not None]
    assert there == ["a", "c", "d"]
    assert store.items(["msg_b"], anyones) == {}


def test_one_that_is_larger_than_all_there_may_be_is_refused(open_store):
    store = open_store(max_bytes=1000)
    store.put(kept("a"))
    assert not store.put(kept("b", text="x" * 2000))
    assert store.get("a") is not None


def test_a_response_is_gone_when_it_was_not_used_for_so_long(open_store, clock):
    store = open_store(keep_s=100)
    store.put(kept("a"))
    store.put(kept("b"))
    clock.now += 80
    assert ids(store.chain("a")) == ["a"]
    clock.now += 50
    assert store.get("a") is not None
    assert store.get("b") is None
    store.put(kept("c"))
    connection = sqlite3.connect(store._path)
    rows = connection.execute("SELECT id FROM responses ORDER BY id").fetchall()
    connection.close()
    assert rows == [("a",), ("c",)]


def test_a_chain_that_lacks_a_link_is_none(open_store):
    store = open_store()
    store.put(kept("a"))
    store.put(kept("b", previous="a", root="a"))
    store.put(kept("c", previous="b", root="a"))
    store.delete("b")
    assert store.chain("c") is None
    assert ids(store.chain("a")) == ["a"]


def test_a_chain_that_leads_back_to_itself_ends(open_store):
    store = open_store(max_bytes=10**6)
    store.put(kept("a", previous="b", root="a"))
    store.put(kept("b", previous="a", root="a"))
    with pytest.raises(InvalidRequest):
        store.chain("a")


def test_only_its_owner_may_read_the_file(open_store):
    store = open_store()
    store.put(kept("a"))
    for path in store._path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_of_a_later_version_is_left_alone(open_store):
    store = open_store()
    store.put(kept("a"))
    store.close()
    connection = sqlite3.connect(store._path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LogUnreadable):
        store.get("a")
    connection = sqlite3.connect(store._path)
    assert connection.execute("SELECT COUNT(*) FROM responses").fetchone() == (1,)
    connection.close()
