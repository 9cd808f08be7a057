"""Whatever interrupts a writer, what was there stays and nothing half-written is left."""

import pytest

from imaging.atomic import new_folder, whole_file


class BrokenWriteError(Exception):
    pass


def _write_half(path):
    with whole_file(path) as part:
        part.write_text("half")
        raise BrokenWriteError


def _fill_half(folder):
    with new_folder(folder) as part:
        (part / "slice").write_text("half")
        raise BrokenWriteError


def test_a_file_is_there_once_it_is_whole(tmp_path):
    with whole_file(tmp_path / "deep" / "plan.json") as part:
        part.write_text("whole")
        assert not (tmp_path / "deep" / "plan.json").exists()
        assert part.suffix == ".json"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["plan.json"]


def test_an_interrupted_file_leaves_the_old_one(tmp_path):
    (tmp_path / "plan.json").write_text("old")
    with pytest.raises(BrokenWriteError):
        _write_half(tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_there_once_it_is_whole(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("fresh", "empty"):
        with new_folder(tmp_path / name) as part:
            (part / "slice").write_text("whole")
        assert (tmp_path / name / "slice").read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "fresh"]


def test_an_interrupted_folder_leaves_nothing(tmp_path):
    with pytest.raises(BrokenWriteError):
        _fill_half(tmp_path / "ct")
    assert not list(tmp_path.iterdir())


def test_a_folder_or_file_of_somebody_is_left_alone(tmp_path):
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "slice").write_text("somebody's")
    (tmp_path / "file").write_text("somebody's")
    for name in ("scan", "file"):
        with (
            pytest.raises(ValueError, match="new or empty folder to write to"),
            new_folder(tmp_path / name),
        ):
            pass
    assert (tmp_path / "scan" / "slice").read_text() == "somebody's"
