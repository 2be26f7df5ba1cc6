"""LORA_PATHS: what is loaded at the start, and what is kept in step with the files."""

import asyncio
import errno
import logging
import os
from pathlib import Path

import pytest

from qwenkit.errors import AdapterUnsupported
from qwenkit.server.adapter_folders import signature

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


@pytest.fixture
def start(make_app, run, models, adapters_dir):
    """A server that loads what lies in `adapters_dir`; gives the client."""

    def start(**settings):
        return run(make_app(models=models, **{"lora_paths": f"{adapters_dir}/*", **settings}))

    return start


async def names(client):
    return [each["name"] for each in (await client.get("/admin/adapters")).json()["adapters"]]


async def answer(client, ask, model):
    reply = await client.post(CHAT, json=ask("hello", model=model))
    return reply.json()["choices"][0]["message"]["content"]


def paths_of(client):
    return client.state.rereader.lora_paths


async def look(client):
    """What the watcher does from time to time."""
    await paths_of(client).sync(settled_only=True)


def errors(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


async def test_what_the_patterns_name_is_there_with_the_model(start, write_adapter, ask):
    write_adapter("poet", "a rhyme")
    write_adapter("clerk", "a form")
    async with start() as client:
        assert await names(client) == ["clerk", "poet"]
        assert await answer(client, ask, "poet") == "a rhyme"


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ("{}", ["a", "b"]),
        ("{}/a.gguf", ["a"]),
        ("{}/a.gguf, {}/b.gguf", ["a", "b"]),
        ("{}/a*,{}/nothing*", ["a"]),
        ("{}/**/*.gguf", ["a", "b", "c"]),
        ("{}/deep/?.gguf", ["c"]),
        ("{}/nothing", []),
        ("", []),
    ],
)
async def test_patterns_name_files_folders_and_what_is_in_them(
    start, write_adapter, adapters_dir, patterns, found
):
    write_adapter("a")
    write_adapter("b")
    write_adapter("c", folder=adapters_dir / "deep")
    (adapters_dir / "notes.txt").write_text("no adapter", encoding="utf-8")
    async with start(lora_paths=patterns.replace("{}", str(adapters_dir))) as client:
        assert await names(client) == found


async def test_of_two_of_one_name_the_first_is_loaded_and_the_other_is_named(
    start, write_adapter, adapters_dir, ask, caplog
):
    for folder in ("one", "two"):
        write_adapter("poet", f"from {folder}", folder=adapters_dir / folder)
    async with start(lora_paths=f"{adapters_dir}/two/*,{adapters_dir}/one/*") as client:
        assert await answer(client, ask, "poet") == "from two"
        assert [str(adapters_dir / "one" / "poet.gguf") in each for each in errors(caplog)] == [
            True
        ]


async def test_a_broken_adapter_does_not_keep_the_model_from_being_served(
    start, write_adapter, adapters_dir, ask, caplog
):
    write_adapter("good")
    (adapters_dir / "bad.gguf").write_text("{", encoding="utf-8")
    write_adapter("scripted")
    async with start() as client:
        assert await names(client) == ["good"]
        assert await answer(client, ask, None) == "Hello there!"
        assert len(errors(caplog)) == 2
        await look(client)
        await look(client)
        assert len(errors(caplog)) == 2, "each is logged once"


async def test_what_appears_is_loaded_once_it_is_still(start, write_adapter, ask):
    async with start() as client:
        write_adapter("poet", "a rhyme")
        await look(client)
        assert await names(client) == []
        await look(client)
        assert await answer(client, ask, "poet") == "a rhyme"


async def test_what_is_removed_is_unloaded(start, write_adapter):
    path = write_adapter("poet")
    write_adapter("clerk")
    async with start() as client:
        path.unlink()
        await look(client)
        assert await names(client) == ["clerk"]


async def test_what_changes_gets_a_new_version(start, write_adapter, ask):
    write_adapter("poet", "one")
    async with start() as client:
        write_adapter("poet", "two, longer")
        await look(client)
        await look(client)
        assert await answer(client, ask, "poet") == "two, longer"


async def test_what_is_half_copied_is_loaded_when_it_is_whole_and_complained_of_once(
    start, write_adapter, adapters_dir, ask, caplog
):
    whole = write_adapter("whole", "a rhyme", folder=adapters_dir / "aside")
    text = whole.read_text(encoding="utf-8")
    path = adapters_dir / "poet.gguf"
    async with start() as client:
        for end in range(1, len(text), 7):
            path.write_text(text[:end], encoding="utf-8")
            await look(client)
        assert errors(caplog) == []
        for _ in range(5):
            await look(client)
        assert len(errors(caplog)) == 1
        assert await names(client) == []
        path.write_text(text, encoding="utf-8")
        await look(client)
        await look(client)
        assert await answer(client, ask, "poet") == "a rhyme"
        assert len(errors(caplog)) == 1


async def test_a_version_that_is_broken_leaves_the_one_before(start, write_adapter, ask, caplog):
    path = write_adapter("poet", "a rhyme")
    async with start() as client:
        path.write_text("{", encoding="utf-8")
        for _ in range(4):
            await look(client)
        assert await answer(client, ask, "poet") == "a rhyme"
        assert len(errors(caplog)) == 1
        path.unlink()
        await look(client)
        assert await names(client) == []


async def test_a_link_that_points_elsewhere_now_is_another_version(
    start, write_adapter, adapters_dir, ask
):
    versions = [write_adapter(f"v{i}", f"version {i}", folder=adapters_dir / "all") for i in (1, 2)]
    link = adapters_dir / "current.gguf"
    link.symlink_to(versions[0])
    async with start() as client:
        assert await answer(client, ask, "current") == "version 1"
        link.unlink()
        link.symlink_to(versions[1])
        await look(client)
        await look(client)
        assert await answer(client, ask, "current") == "version 2"


async def test_what_somebody_unloaded_stays_away_until_it_changes(start, write_adapter):
    write_adapter("poet")
    async with start() as client:
        await client.delete("/admin/adapters/poet")
        await look(client)
        await look(client)
        assert await names(client) == []
        await client.post("/admin/reload", json={})
        assert await names(client) == []
        write_adapter("poet", "another rhyme")
        await look(client)
        await look(client)
        assert await names(client) == ["poet"]


async def test_what_somebody_else_loaded_under_the_name_is_left_alone(
    start, write_adapter, adapters_dir, ask
):
    path = write_adapter("poet", "from the folder")
    other = write_adapter("other", "by hand", folder=adapters_dir / "aside")
    async with start(lora_dirs=str(adapters_dir / "aside")) as client:
        body = {"name": "poet", "path": str(other), "replace": True}
        assert (await client.post("/admin/adapters", json=body)).status_code == 200
        path.unlink()
        await look(client)
        assert await answer(client, ask, "poet") == "by hand"


async def test_a_file_that_takes_over_a_name_is_loaded(start, write_adapter, adapters_dir, ask):
    first = write_adapter("poet", "one", folder=adapters_dir / "a")
    write_adapter("poet", "two", folder=adapters_dir / "b")
    async with start(lora_paths=f"{adapters_dir}/a/*,{adapters_dir}/b/*") as client:
        first.unlink()
        await look(client)
        await look(client)
        assert await answer(client, ask, "poet") == "two"


async def test_the_folders_of_the_patterns_may_be_loaded_from_by_hand(
    start, write_adapter, tmp_path
):
    inside = write_adapter("inside")
    outside = write_adapter("outside", folder=tmp_path / "elsewhere")
    async with start() as client:
        for path, status in ((inside, 200), (outside, 403)):
            body = {"name": "mine", "path": str(path)}
            assert (await client.post("/admin/adapters", json=body)).status_code == status


async def test_a_pattern_allows_what_it_names_and_not_what_lies_beside(
    make_app, run, models, write_adapter, tmp_path
):
    ours = write_adapter("a", folder=tmp_path / "one" / "adapters")
    beside = write_adapter("b", folder=tmp_path / "one" / "private")
    single = write_adapter("c", folder=tmp_path / "single")
    neighbour = write_adapter("d", folder=tmp_path / "single")
    app = make_app(models=models, lora_paths=f"{tmp_path}/*/adapters/*,{single}")
    async with run(app) as client:
        for path, status in ((ours, 200), (beside, 403), (single, 200), (neighbour, 403)):
            body = {"name": f"my {path.stem}", "path": str(path)}
            assert (await client.post("/admin/adapters", json=body)).status_code == status


async def test_a_watching_server_notices_by_itself(start, write_adapter):
    async with start(lora_watch=True) as client:
        write_adapter("poet", "a rhyme")
        async with asyncio.timeout(15):
            while await names(client) != ["poet"]:
                await asyncio.sleep(0.05)


async def test_a_server_that_does_not_watch_leaves_files_alone(start, write_adapter):
    async with start() as client:
        assert paths_of(client)._watching is None
        write_adapter("poet")
        assert await names(client) == []


async def test_a_touched_file_keeps_its_version(start, write_adapter):
    path = write_adapter("poet")
    async with start() as client:
        before = (await client.get("/admin/adapters")).json()
        os.utime(path, ns=(1, 1))
        await look(client)
        await look(client)
        assert (await client.get("/admin/adapters")).json() == before


@pytest.fixture
def for_two(models):
    """Models of which only `two` takes adapters."""

    def need_two(source):
        if models.specs[-1].model_path != "two":
            raise AdapterUnsupported(f"`{source}` is for another model")

    models.before_prepare = need_two
    return models


async def left_out(client):
    status = (await client.get("/admin/status")).json()
    return [each["name"] for each in status["left_out"]]


async def test_what_appears_and_fits_only_another_model_comes_with_that_one(
    start, write_adapter, for_two, caplog
):
    async with start(model_path="one") as client:
        path = write_adapter("poet")
        for _ in range(4):
            await look(client)
        assert (await names(client), await left_out(client)) == ([], ["poet"])
        assert len(errors(caplog)) == 1
        await client.post("/admin/reload", json={"model_path": "two"})
        assert (await names(client), await left_out(client)) == (["poet"], [])
        await client.post("/admin/reload", json={"model_path": "one"})
        assert await left_out(client) == ["poet"]
        path.unlink()
        await look(client)
        assert await left_out(client) == []
        await client.post("/admin/reload", json={"model_path": "two"})
        assert await names(client) == []


async def test_what_does_not_fit_does_not_take_the_name_of_what_does(
    start, write_adapter, adapters_dir, ask, models, scripted
):
    models.makers["new"] = scripted
    other = write_adapter("other", "by hand", folder=adapters_dir / "aside")
    async with start(lora_dirs=str(adapters_dir / "aside")) as client:
        await client.post("/admin/adapters", json={"name": "poet", "path": str(other)})
        (adapters_dir / "poet.gguf").write_text("{", encoding="utf-8")
        await look(client)
        await look(client)
        assert await left_out(client) == []
        await client.post("/admin/reload", json={"model_path": "new"})
        assert await answer(client, ask, "poet") == "by hand"


async def test_what_can_not_be_named_is_not_given_to_a_later_model(start, write_adapter):
    async with start() as client:
        write_adapter("two\nlines")
        await look(client)
        await look(client)
        await client.post("/admin/reload", json={})
        assert (await names(client), await left_out(client)) == ([], [])


async def test_two_looks_at_once_do_not_get_in_each_others_way(start, write_adapter):
    path = write_adapter("poet")
    async with start() as client:
        async with client.state.adapters.frozen():  # as while a model is replaced
            path.unlink()
            looks = [asyncio.create_task(look(client)) for _ in range(2)]
            for _ in range(50):
                await asyncio.to_thread(bool)
        await asyncio.gather(*looks)
        assert await names(client) == []


@pytest.fixture
def unreadable(monkeypatch):
    """Makes a folder one that this user may neither list nor enter, also where that is root."""

    def make(folder):
        folder.mkdir()
        look_into, look_at = Path.iterdir, Path.stat

        def iterdir(path):
            _refuse(path == folder or folder in path.parents)
            return look_into(path)

        def stat(path, **options):
            _refuse(folder in path.parents)
            return look_at(path, **options)

        monkeypatch.setattr(Path, "iterdir", iterdir)
        monkeypatch.setattr(Path, "stat", stat)
        return folder

    return make


def _refuse(is_inside):
    if is_inside:
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("pattern", ["{}", "{}/*", "{}/lost+found", "{},{}/**"])
async def test_a_folder_that_may_not_be_read_is_named_once_and_stops_nothing(
    start, write_adapter, adapters_dir, unreadable, caplog, pattern
):
    write_adapter("poet")
    folder = unreadable(adapters_dir / "lost+found")
    patterns = f"{pattern},{{}}/*.gguf".replace("{}", str(adapters_dir))
    async with start(lora_paths=patterns) as client:
        assert await names(client) == ["poet"]
        write_adapter("clerk")
        await look(client)
        await look(client)
        assert await names(client) == ["clerk", "poet"]
    named = [each for each in caplog.records if f"`{folder}`" in each.getMessage()]
    assert len(named) == 1


def test_a_change_beside_a_link_to_nothing_is_noticed(tmp_path):
    folder = tmp_path / "poet"
    folder.mkdir()
    weights = folder / "adapter_model.safetensors"
    weights.write_text("one", encoding="utf-8")
    (folder / ".#adapter_config.json").symlink_to("somebody@somewhere")
    before = signature(folder)
    weights.write_text("two, longer", encoding="utf-8")
    assert len(before) == 2
    assert signature(folder) != before
