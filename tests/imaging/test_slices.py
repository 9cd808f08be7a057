import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imaging.slices import Slices, read_slices, split_by_blocks


def put(
    folder: Path, name: str, kind: int, number: int, box: str = "0.5 0.25 0.2 0.1", size: int = 8
) -> Path:
    (folder / name).mkdir(exist_ok=True, parents=True)
    picture = np.zeros((size, size), np.uint8)
    picture[: size // 2] = 200  # bright above
    path = folder / name / f"{number}.png"
    Image.fromarray(picture).save(path)
    path.with_suffix(".txt").write_text(f"{kind} {box}")
    return path


def many() -> Slices:
    numbers = torch.arange(600)
    return Slices(
        torch.zeros(600, 1, 2, 2, dtype=torch.uint8),
        (numbers // 300).long(),
        torch.zeros(600, 4),
        numbers,
        ("a", "b"),
    )


def test_slices_come_in_order_with_their_boxes_as_means_of_what_they_cover(tmp_path: Path) -> None:
    put(tmp_path, "glioma", 1, 10)
    put(tmp_path, "glioma", 1, 9, "0.1 0.2 0.3 0.4")
    put(tmp_path, "adenoma", 0, 3)
    found = read_slices(tmp_path, 4)
    assert found.names == ("adenoma", "glioma")
    assert found.classes.tolist() == [0, 1, 1]
    assert found.numbers.tolist() == [3, 9, 10]
    assert found.boxes[1].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert found.images.shape == (3, 1, 4, 4)
    assert found.images[0, 0, :, 1].tolist() == [200, 200, 0, 0]


def test_a_block_never_parts() -> None:
    train, test = split_by_blocks(many(), 0.3, torch.Generator().manual_seed(0))
    assert len(train) + len(test) == 600
    assert not set((train.numbers // 60).tolist()) & set((test.numbers // 60).tolist())
    for c in (0, 1):  # 30 % of five blocks is two
        assert int((test.classes == c).sum()) == 120


def test_the_split_depends_on_its_generator_alone() -> None:
    one, again = (split_by_blocks(many(), 0.3, torch.Generator().manual_seed(1))[1] for _ in range(2))
    assert torch.equal(one.numbers, again.numbers)


def test_what_is_not_a_slice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0"):
        read_slices(tmp_path, 4)
    path = put(tmp_path, "glioma", 0, 1)
    for text, sentence in (
        ("", "class cx cy w h"),
        ("0 1 2", "class cx cy w h"),
        ("0 nan 0 0.1 0.1", "inside the picture"),
        ("0 0.5 0.5 0 0.1", "inside the picture"),
        ("1 0.5 0.5 0.1 0.1", "without a gap"),
    ):
        path.with_suffix(".txt").write_text(text)
        with pytest.raises(ValueError, match=sentence):
            read_slices(tmp_path, 4)
    put(tmp_path, "glioma", 0, 1)
    put(tmp_path, "other", 0, 2)
    with pytest.raises(ValueError, match="in two"):
        read_slices(tmp_path, 4)
    path.write_bytes(b"\xff\xd8 broken")
    with pytest.raises(ValueError, match=r"damaged one: 1\.png"):
        read_slices(tmp_path, 4)
    put(tmp_path, "glioma", 0, 1).rename(tmp_path / "glioma" / "one.png")
    (tmp_path / "glioma" / "one.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(ValueError, match="named by number"):
        read_slices(tmp_path, 4)


def test_one_block_cannot_be_split() -> None:
    few = many().at(torch.arange(300, 360))
    with pytest.raises(ValueError, match="two blocks or more"):
        split_by_blocks(few, 0.5, torch.Generator())


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("SPINDOSE_DATA"), reason="SPINDOSE_DATA names no folder")
def test_the_public_slices_are_what_their_readme_says() -> None:
    found = read_slices(Path(os.environ["SPINDOSE_DATA"]) / "tumour_slices", 32)
    assert len(found) == 1559
    assert found.names == ("pituitary", "meningioma", "glioma")
    assert torch.bincount(found.classes).tolist() == [481, 358, 720]
