from pathlib import Path

import pytest

from app.steps import Walk, file_hash, whole_folder


def quiet(title: str, share: float) -> None:
    pass


class Counter:
    """Two steps, the second built on the first, that count how often each is made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def walk(self, folder: Path, first: int = 1, second: int = 1, broken: bool = False) -> str:
        walk = Walk(folder, quiet)

        def make_a() -> str:
            self.made.append("a")
            return f"a{first}"

        def make_b() -> str:
            self.made.append("b")
            if broken:
                raise KeyboardInterrupt
            return f"{a}b{second}"

        def write(text: str, here: Path) -> None:
            (here / "text").write_text(text)

        def read(here: Path) -> str:
            return (here / "text").read_text()

        a = walk.step("a", "A", {"n": first}, make_a, write, read)
        return walk.step("b", "B", {"n": second}, make_b, write, read, after=("a",))


def test_a_second_walk_computes_nothing(tmp_path):
    counter = Counter()
    assert counter.walk(tmp_path) == counter.walk(tmp_path) == "a1b1"
    assert counter.made == ["a", "b"]


def test_a_killed_walk_goes_on_from_the_last_whole_step(tmp_path):
    counter = Counter()
    with pytest.raises(KeyboardInterrupt):
        counter.walk(tmp_path, broken=True)
    assert counter.walk(tmp_path) == "a1b1"
    assert counter.made == ["a", "b", "b"]


def test_a_changed_input_is_made_again_with_all_that_builds_on_it(tmp_path):
    counter = Counter()
    counter.walk(tmp_path)
    assert counter.walk(tmp_path, first=2) == "a2b1"
    assert counter.walk(tmp_path, first=2, second=3) == "a2b3"
    assert counter.made == ["a", "b", "a", "b", "b"]


@pytest.mark.parametrize("harm", ["changed", "missing", "seal"])
def test_a_damaged_result_is_made_again(tmp_path, harm):
    counter = Counter()
    counter.walk(tmp_path)
    if harm == "changed":
        (tmp_path / "a" / "text").write_text("other")
    elif harm == "missing":
        (tmp_path / "a" / "text").unlink()
    else:
        (tmp_path / ".steps" / "a.json").write_text("{")
    assert counter.walk(tmp_path) == "a1b1"
    assert counter.made == ["a", "b", "a"]


def test_two_walks_leave_identical_files(tmp_path):
    Counter().walk(tmp_path / "one")
    Counter().walk(tmp_path / "two")
    assert file_hash(tmp_path / "one") == file_hash(tmp_path / "two")


def test_an_interrupted_folder_leaves_the_old_one_as_it_was(tmp_path):
    with whole_folder(tmp_path / "x") as here:
        (here / "old").touch()

    def interrupted() -> None:
        with whole_folder(tmp_path / "x") as here:
            (here / "new").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["old"]


def test_file_hash_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_hash(tmp_path / "f").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "mine").touch()
    with pytest.raises(ValueError, match="got one that holds other files"):
        Walk(tmp_path, quiet)
    assert (tmp_path / "scan" / "mine").exists()
