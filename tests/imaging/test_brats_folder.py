from pathlib import Path

import pytest

from imaging.brats_folder import find_cases


def put(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.nii.gz").touch()


def test_layouts_of_several_years_are_found(tmp_path: Path) -> None:
    put(
        tmp_path / "BraTS-GLI-00001-000",
        *(f"BraTS-GLI-00001-000-{w}" for w in ("t1n", "t1c", "t2w", "t2f", "seg")),
    )
    put(tmp_path / "BraTS20_001", *(f"BraTS20_001_{w}" for w in ("t1", "t1ce", "t2", "flair", "seg")))
    put(tmp_path / "plain", "t1c", "t2f", "other")
    put(tmp_path / "SPD-00000", *(f"SPD-00000-{w}" for w in ("t1n", "labels", "ct")))
    put(tmp_path / "empty", "notes")
    new, old, own, plain = find_cases(tmp_path)
    assert [list(c.contrasts) for c in (new, old)] == [["t1n", "t1c", "t2w", "t2f"]] * 2
    assert (new.old, old.old) == (False, True)
    assert new.seg is not None
    assert own.labels is not None
    assert own.seg is None
    assert list(plain.contrasts) == ["t1c", "t2f"]


def test_one_case_is_a_folder_of_one(tmp_path: Path) -> None:
    put(tmp_path, "t1n", "t2f")
    assert [c.folder for c in find_cases(tmp_path)] == [tmp_path]


def test_none_or_two_of_a_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none"):
        find_cases(tmp_path)
    with pytest.raises(ValueError, match="got none"):
        find_cases(tmp_path / "nowhere")
    put(tmp_path / "a", "a-t1n", "t1n")
    with pytest.raises(ValueError, match="two of t1n"):
        find_cases(tmp_path)
