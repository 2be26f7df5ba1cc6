"""Files and folders that are whole or not there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.models.atomic import (
    atomic_file,
    atomic_folder,
    exclusive,
    remove_stale,
    require_space,
)


def test_the_target_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with atomic_file(target) as partial:
        partial.write_bytes(b"whole")
        assert partial.parent == target.parent
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failing_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_file(target) as partial:
            partial.write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_go_and_work_in_progress_stays(tmp_path: Path) -> None:
    stale = tmp_path / ".x.gguf.00000000.partial"
    stale.touch()
    with atomic_file(tmp_path / "x.gguf") as partial:
        assert not stale.exists()
        remove_stale(tmp_path)
        assert partial.exists()
        partial.write_bytes(b"")


def test_a_folder_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with atomic_folder(target) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_bytes(b"whole")
        assert not target.exists()
    assert (target / "inner" / "file").read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    with atomic_folder(target) as partial:
        (partial / "new").touch()
        assert (target / "old").exists()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failing_block_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()

    def interrupted() -> None:
        with atomic_folder(target) as partial:
            (partial / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_left_folders_go_and_those_in_progress_stay(tmp_path: Path) -> None:
    stale = tmp_path / ".x.00000000.partial"
    stale.mkdir()
    (stale / "file").touch()
    with atomic_folder(tmp_path / "x") as partial:
        assert not stale.exists()
        remove_stale(tmp_path)
        assert partial.exists()


def test_an_exclusive_folder_admits_one_at_a_time(tmp_path: Path) -> None:
    folder, inside, most = tmp_path / "x", 0, 0
    gate = threading.Barrier(4)

    def work() -> None:
        nonlocal inside, most
        gate.wait()
        for _ in range(50):
            with exclusive(folder):
                inside += 1
                most = max(most, inside)
                (folder / "made").touch()
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_an_exclusive_folder_that_ends_empty_is_removed(tmp_path: Path) -> None:
    with exclusive(tmp_path / "x"):
        assert (tmp_path / "x").is_dir()
    assert not (tmp_path / "x").exists()


def test_a_folder_that_can_not_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match="file/x"), exclusive(tmp_path / "file" / "x"):
        pass


def test_too_little_space_is_told_with_both_numbers(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1, purpose="this")
    with pytest.raises(InvalidSettings, match=r"this needs 1000000000\.0 GB and .* free"):
        require_space(tmp_path, 10**18, purpose="this")


def test_a_link_to_a_folder_is_replaced_and_what_it_led_to_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"old")
    target = tmp_path / "folder"
    target.symlink_to(elsewhere)
    with atomic_folder(target) as partial:
        (partial / "file").write_bytes(b"new")
    assert not target.is_symlink()
    assert (target / "file").read_bytes() == b"new"
    assert (elsewhere / "file").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "folder"]
