"""Folders of checkpoints, and files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq._lib import files
from rmtdeq._lib.checkpoint import Checkpoint
from rmtdeq._lib.files import free_space, in_memory, reserve, write_whole


def test_parts_come_back_as_they_were_saved(tmp_path):
    kept = Checkpoint(tmp_path / "a" / "b", {"n": 3, "x": 0.1}, "job")
    assert kept.load("part") is None
    arrays = {"u": np.arange(6.0).reshape(2, 3), "v": np.zeros((0, 2))}
    kept.save("part", arrays)
    again = Checkpoint(tmp_path / "a" / "b", {"n": 3, "x": 0.1}, "job").load("part")
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize("other", [{"n": 4, "x": 0.1}, {"n": 3}, {"n": 3, "x": 0.1, "more": 1}])
def test_another_record_is_refused_and_named(tmp_path, other):
    Checkpoint(tmp_path, {"n": 3, "x": 0.1}, "job")
    with pytest.raises(rd.InvalidInputError, match=r"another computation: its (n|x|more) is"):
        Checkpoint(tmp_path, other, "job")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00\x01", '"n"'])
def test_a_record_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(rd.InvalidInputError, match=r"job\.json"):
        Checkpoint(tmp_path, {"n": 3}, "job")


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(rd.InvalidInputError, match="cannot be used"):
        Checkpoint(tmp_path / "file", {"n": 3}, "job")


def test_pickles_are_never_loaded(tmp_path):
    kept = Checkpoint(tmp_path, {"n": 3}, "job")
    np.savez(tmp_path / "part.npz", column=np.array([{"a": 1}], dtype=object))
    with pytest.raises(rd.InvalidInputError, match=r"part\.npz cannot be read"):
        kept.load("part")


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    import torch

    kept = Checkpoint(tmp_path, {"n": 3}, "training")
    assert kept.load_state() is None
    assert "too short" in kept.kept()
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loss": [0.1, 1 / 3], "epoch": 2}
    kept.save_state(state)
    assert "kept in" in kept.kept()
    found = kept.load_state()
    assert (found["loss"], found["epoch"]) == ([0.1, 1 / 3], 2)
    torch.testing.assert_close(found["model"], state["model"], rtol=0, atol=0)
    torch.testing.assert_close(found["optimizer"]["state"], state["optimizer"]["state"], rtol=0, atol=0)


class _Trap:
    """What a pickle of an enemy holds: opened, it would write a file."""

    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_a_state_with_foreign_code_or_damage_is_refused(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    kept = Checkpoint(tmp_path / "a", {"n": 3}, "training")
    torch.save({"weights": _Trap()}, tmp_path / "a" / "last.pt")
    with pytest.raises(
        rd.InvalidInputError, match=r"last\.pt cannot be read: it is damaged, or holds more.*computed again"
    ):
        kept.load_state()
    assert not (tmp_path / "trapped").exists()
    kept.save_state({"weights": torch.ones(100)})
    whole = (tmp_path / "a" / "last.pt").read_bytes()
    for length in range(0, len(whole), 50):
        (tmp_path / "a" / "last.pt").write_bytes(whole[:length])
        with pytest.raises(rd.InvalidInputError, match=r"last\.pt cannot be read"):
            kept.load_state()


def test_a_training_that_an_older_version_kept_is_refused(tmp_path):
    kept = Checkpoint(tmp_path, {"n": 3}, "training")
    np.savez(tmp_path / "last.npz", position=np.array([1, 2]))
    with pytest.raises(rd.InvalidInputError, match=r"an older rmtdeq kept.*name another folder"):
        kept.load_state()


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "x.txt", fail)
    assert not list(tmp_path.iterdir())


def test_a_file_has_its_room_before_it_is_filled(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    reserve(path)
    # Where the system cannot reserve room, nothing is done.
    assert path.stat().st_blocks * 512 >= (1 << 20 if hasattr(os, "posix_fallocate") else 0)
    assert path.read_bytes() == bytes(1 << 20)


def test_free_space_is_asked_of_the_nearest_folder_that_is_there(tmp_path):
    assert free_space(tmp_path / "not" / "yet") > 0


def test_files_in_memory_are_known_by_the_deepest_mount(monkeypatch):
    mounts = [["/", "ext4"], ["/fast", "tmpfs"], ["/fast/disk", "xfs"], ["/ram", "ramfs"]]
    monkeypatch.setattr(files, "_mounts", lambda: mounts)
    for place, expected in (("/x", False), ("/fast/a", True), ("/fast/disk/a", False), ("/ram", True), ("/fas", False)):
        assert in_memory(Path(place)) is expected
    monkeypatch.setattr(files, "_mounts", list)
    assert not in_memory(Path("/fast"))
