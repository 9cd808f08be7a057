import subprocess
from pathlib import Path

ROOMS = {"app", "synth", "mr2ct", "planning", "models", "imaging"}
BESIDE = {"tests", "benchmarks", "docs", "notebooks"}
HOUSE = Path(__file__).parent.parent


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=HOUSE, check=True, capture_output=True, text=True)
    return [Path(line) for line in listed.stdout.splitlines()]


def test_folders_at_the_top_are_the_declared_rooms():
    folders = {path.parts[0] for path in tracked() if len(path.parts) > 1}
    assert folders >= ROOMS
    assert {name for name in folders if not name.startswith(".")} <= ROOMS | BESIDE


def test_every_package_init_is_empty():
    assert [p for p in tracked() if p.name == "__init__.py" and (HOUSE / p).read_text().strip()] == []


def test_no_room_is_a_drawer():
    drawers = {"utils", "common", "helpers", "core", "misc"}
    assert [p for p in tracked() if drawers & {part.removesuffix(".py") for part in p.parts}] == []


def test_no_file_is_longer_than_a_reader_bears():
    code = [p for p in tracked() if p.suffix == ".py"]
    long = {p: len((HOUSE / p).read_text().splitlines()) for p in code}
    assert [p for p, n in long.items() if n > (500 if p.parts[0] == "tests" else 350)] == []
