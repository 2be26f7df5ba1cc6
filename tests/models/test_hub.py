"""Downloads against a fake Hub on this machine: what arrives, and what each refusal says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from qwenkit.errors import DownloadFailed, InvalidSettings, ModelNotFound
from qwenkit.models.hub import Hub, HubId
from qwenkit.models.progress import Advance

REPO = HubId("some/model")
FILES = {"config.json": b"{}", "sub/a.bin": b"a" * 300_000, "b.bin": b"b" * 1000}


def hub_of(fake_hub: Any, **changes: Any) -> Hub:
    return Hub(**{"endpoint": fake_hub.url, "cache": fake_hub.cache, "token": "t0ken", **changes})


@contextmanager
def counted(seen: list[int]) -> Iterator[Callable[..., Any]]:
    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B") -> Iterator[Advance]:
        assert total is not None
        seen.append(-total)
        yield seen.append

    yield progress


def test_files_arrive_whole_and_progress_adds_up(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = FILES
    hub, seen = hub_of(fake_hub), []
    with counted(seen) as progress:
        paths = hub.download(hub.list_files(REPO), list(FILES), progress=progress)
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert seen[0] == -sum(map(len, FILES.values()))
    assert sum(seen) == 0
    assert fake_hub.tokens == {"Bearer t0ken"}


def test_what_is_there_is_not_fetched_again(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = FILES
    hub = hub_of(fake_hub)
    hub.download(hub.list_files(REPO), ["b.bin"])
    fake_hub.requests.clear()
    listing = hub.list_files(REPO)
    hub.download(listing, ["b.bin"])
    assert [path for _, path in fake_hub.requests if "resolve" in path] == []
    hub.download(listing, ["b.bin", "config.json"])
    assert {path for method, path in fake_hub.requests if method == "GET"} >= {
        "/some/model/resolve/main/config.json"
    }


def test_what_changed_on_the_hub_is_fetched_again(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = dict(FILES)
    hub = hub_of(fake_hub)
    [old] = hub.download(hub.list_files(REPO), ["b.bin"])
    fake_hub.files["some/model"]["b.bin"] = b"c" * 1000
    fake_hub.commit = "89abcdef0123456789abcdef0123456789abcdef"
    [new] = hub.download(hub.list_files(REPO), ["b.bin"])
    assert (old.read_bytes(), new.read_bytes()) == (b"b" * 1000, b"c" * 1000)
    [kept] = hub_of(fake_hub, offline=True).list_files(REPO).local.values()
    assert kept == new


def test_a_download_goes_on_where_the_connection_broke(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = FILES
    fake_hub.cut_first_download_at = 100_000
    hub, seen = hub_of(fake_hub), []
    with counted(seen) as progress:
        try:
            [path] = hub.download(hub.list_files(REPO), ["sub/a.bin"], progress=progress)
        except DownloadFailed:
            [path] = hub.download(hub.list_files(REPO), ["sub/a.bin"], progress=progress)
    assert path.read_bytes() == FILES["sub/a.bin"]


def test_offline_the_cache_is_enough(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = FILES
    hub = hub_of(fake_hub)
    hub.download(hub.list_files(REPO), ["b.bin"])
    fake_hub.requests.clear()
    offline = hub_of(fake_hub, offline=True)
    listing = offline.list_files(REPO)
    assert listing.sizes == {"b.bin": 1000}
    assert offline.download(listing, ["b.bin"])[0].read_bytes() == FILES["b.bin"]
    assert fake_hub.requests == []


def test_offline_and_not_in_the_cache_says_how_to_get_it(fake_hub: Any) -> None:
    with pytest.raises(DownloadFailed, match="not in the cache") as caught:
        hub_of(fake_hub, offline=True).list_files(REPO)
    assert "qwenkit model pull some/model" in caught.value.hint


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_without_a_network_the_cache_serves_and_else_the_reason_is_given(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = FILES
    hub = hub_of(fake_hub)
    hub.download(hub.list_files(REPO), ["b.bin"])
    cut_off = hub_of(fake_hub, endpoint=f"http://127.0.0.1:{closed_port()}")
    assert cut_off.list_files(REPO).sizes == {"b.bin": 1000}
    with pytest.raises(DownloadFailed, match="could not be reached"):
        cut_off.list_files(HubId("some/other"))


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "GatedRepo", DownloadFailed, "gated"),
        (404, "RepoNotFound", ModelNotFound, "no repository `some/model`"),
        (401, "RepoNotFound", ModelNotFound, "private"),
        (404, "RevisionNotFound", ModelNotFound, "no revision `main`"),
        (403, "", DownloadFailed, "refused the token"),
        (418, "", DownloadFailed, "418"),
        (500, "", DownloadFailed, "problem of its own"),
    ],
)
def test_each_refusal_gives_its_reason(
    fake_hub: Any, status: int, code: str, error: type[Exception], words: str
) -> None:
    fake_hub.refuse["some/model"] = (status, code)
    with pytest.raises(error, match=words):
        hub_of(fake_hub).list_files(REPO)


def test_a_revision_that_is_not_there_is_named(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = FILES
    with pytest.raises(ModelNotFound, match="v9"):
        hub_of(fake_hub).list_files(HubId("some/model", revision="v9"))


def test_a_file_that_vanished_since_the_listing_is_named(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = dict(FILES)
    hub = hub_of(fake_hub)
    listing = hub.list_files(REPO)
    del fake_hub.files["some/model"]["b.bin"]
    with pytest.raises(ModelNotFound, match=r"b\.bin"):
        hub.download(listing, ["b.bin"])


def test_a_model_larger_than_the_disk_is_refused_before_a_byte_is_fetched(fake_hub: Any) -> None:
    fake_hub.files["some/model"] = FILES
    hub = hub_of(fake_hub)
    listing = hub.list_files(REPO)
    listing.sizes["b.bin"] = 10**18
    fake_hub.requests.clear()
    with pytest.raises(InvalidSettings, match=r"1000000000\.0 GB"):
        hub.download(listing, ["b.bin"])
    assert fake_hub.requests == []


def test_the_token_never_shows_in_a_hubs_words() -> None:
    assert "t0ken" not in repr(Hub(token="t0ken"))
