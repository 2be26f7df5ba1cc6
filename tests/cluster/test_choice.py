"""Which replica a request goes to."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.cluster.affinity import Affinity
from qwenkit.cluster.choice import Candidate, Memory, home, most_load, order


def links(*names: str, model: str = "qwen") -> Affinity:
    return Affinity(model, tuple(name.encode() for name in names))


def idle(*names: str) -> list[Candidate]:
    return [Candidate(name=name) for name in names]


def test_a_conversation_goes_where_its_beginning_was_computed() -> None:
    memory = Memory()
    for replica in "abc":
        memory.learn(links(f"head of {replica}", "shared"), replica)
    for replica in "abc":
        asked = links(f"head of {replica}", "shared", "more")
        assert order(asked, idle("a", "b", "c"), memory)[0] == replica


def test_the_deepest_match_wins() -> None:
    memory = Memory()
    memory.learn(links("1", "2"), "a")
    memory.learn(links("1", "2", "3"), "b")
    assert order(links("1", "2", "3", "4"), idle("a", "b"), memory)[0] == "b"


def test_a_replica_with_too_much_to_do_loses_even_its_own_prompts() -> None:
    memory = Memory()
    memory.learn(links("1", "2"), "a")
    busy = [Candidate(name="a", load=9), Candidate(name="b", load=1)]
    assert order(links("1", "2"), busy, memory) == ["b", "a"]


def test_a_weak_match_gives_way_to_the_idle_one() -> None:
    memory = Memory()
    memory.learn(links("1"), "a")
    candidates = [Candidate(name="a", load=1), Candidate(name="b", load=0)]
    assert order(links("1", "2", "3", "4"), candidates, memory)[0] == "b"


def test_an_adapter_keeps_its_replica_for_prompts_that_nobody_knows() -> None:
    models = frozenset({"qwen", "poet"})
    candidates = [
        Candidate(name=name, models=models, adapters=frozenset({"poet"})) for name in "abcd"
    ]
    firsts = {order(links(str(n), model="poet"), candidates, Memory())[0] for n in range(20)}
    assert len(firsts) == 1
    spread = {order(links(str(n)), candidates, Memory())[0] for n in range(60)}
    assert len(spread) == 4


def test_who_lacks_the_model_comes_last_however_idle() -> None:
    candidates = [
        Candidate(name="new", load=5, models=frozenset({"next"})),
        Candidate(name="old", load=0, models=frozenset({"qwen"})),
    ]
    assert order(links("1", model="next"), candidates, Memory()) == ["new", "old"]


def test_a_name_that_nobody_knows_excludes_nobody() -> None:
    candidates = [Candidate(name="a", models=frozenset({"qwen"})), Candidate(name="b")]
    assert set(order(links("1", model="?"), candidates, Memory())) == {"a", "b"}


def test_a_request_without_a_prompt_goes_to_the_least_loaded() -> None:
    candidates = [Candidate(name="a", load=2), Candidate(name="b", load=1)]
    assert order(None, candidates, Memory()) == ["b", "a"]


def test_what_goes_on_from_a_response_goes_where_that_was_written() -> None:
    memory = Memory()
    memory.learn(links("1", "2"), "a")
    assert order(links("1", "2"), idle("a", "b"), memory, "b") == ["b", "a"]
    assert order(links("1", "2"), idle("a", "b"), memory, "gone") == ["a", "b"]
    busy = [Candidate(name="a"), Candidate(name="b", load=9)]
    assert order(links("1", "2"), busy, memory, "b") == ["a", "b"]


def test_without_a_prompt_that_comes_again_only_adapters_have_a_place() -> None:
    candidates = [
        Candidate(name=name, load=load, adapters=frozenset({"poet"}))
        for name, load in (("a", 1), ("b", 0), ("c", 1))
    ]
    assert order(Affinity("qwen", ()), candidates, Memory())[0] == "b"
    firsts = {order(Affinity("poet", ()), candidates, Memory())[0] for _ in range(3)}
    assert len(firsts) == 1


def test_what_is_forgotten_draws_no_request() -> None:
    memory = Memory()
    memory.learn(links("1", "2"), "a")
    memory.learn(links("1"), "b")
    memory.forget("a")
    assert memory.depth(links("1", "2"), "a") == 0
    assert memory.depth(links("1", "2"), "b") == 1
    assert len(memory) == 1


def test_memory_is_bounded_and_drops_long_prompts_before_shared_beginnings() -> None:
    memory = Memory(max_links=3)
    memory.learn(links("1", "2", "3"), "a")
    memory.learn(links("1", "2", "4"), "a")
    assert len(memory) == 3
    assert memory.depth(links("1", "2", "3"), "a") == 2
    assert memory.depth(links("1", "2", "4"), "a") == 3


def test_of_a_prompt_that_is_too_long_to_remember_the_beginning_stays() -> None:
    memory = Memory(max_links=2)
    memory.learn(links("1", "2", "3"), "a")
    assert memory.depth(links("1", "2", "3"), "a") == 2


def test_the_agent_stays_where_it_is_and_every_door_agrees_where_it_begins() -> None:
    assert home([Candidate(name="a"), Candidate(name="b", is_home=True)]) == "b"
    assert home(idle("a", "b", "c")) == home(idle("c", "a", "b"))


LOADS = st.lists(st.integers(0, 50), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(LOADS, st.lists(st.sampled_from("123456"), min_size=1, max_size=6, unique=True))
def test_every_candidate_is_in_the_order_once(loads: list[int], chain: list[str]) -> None:
    candidates = [Candidate(name=str(n), load=load) for n, load in enumerate(loads)]
    memory = Memory()
    memory.learn(links(*chain), "0")
    found = order(links(*chain), candidates, memory)
    assert sorted(found) == sorted(each.name for each in candidates)


@settings(max_examples=50, deadline=None)
@given(LOADS)
def test_there_is_always_a_replica_that_may_take_one_more(loads: list[int]) -> None:
    assert min(loads) < most_load(loads)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(1, 200))
def test_one_popular_prompt_leaves_no_replica_over_its_bound(n: int, n_requests: int) -> None:
    memory, loads = Memory(), dict.fromkeys(map(str, range(n)), 0)
    for _ in range(n_requests):
        candidates = [Candidate(name=name, load=load) for name, load in loads.items()]
        first = order(links("1", "2"), candidates, memory)[0]
        memory.learn(links("1", "2"), first)
        bound = most_load(list(loads.values()))
        loads[first] += 1
        assert loads[first] <= bound
