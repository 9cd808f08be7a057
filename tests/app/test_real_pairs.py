"""Samples of real pairs: geometry by a ramp, one stream, its share of real ones, patients kept apart."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from app.paired_cases import Pair, PairFiles
from app.paired_material import Ready, tensors_of
from app.prepared import split_patients
from app.real_pairs import Mixed, RealPairs
from imaging.grid import Grid
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from synth.randomisation import ANY, Randomisation

SIDE = 40


def kept(folder: Path, n_contrasts: int = 2) -> Path:
    """A pair whose CT rises by 10 HU with each voxel along k."""
    ct = (10 * torch.arange(SIDE)).expand(SIDE, SIDE, SIDE).to(torch.int16)
    ones = torch.ones(SIDE, SIDE, SIDE, dtype=torch.uint8)
    mr = torch.stack([torch.rand(SIDE, SIDE, SIDE).half() + 0.1 for _ in range(n_contrasts)])
    places = torch.full((5, 3), SIDE // 2, dtype=torch.int32)
    path = folder / "one.safetensors"
    save_file({"mr": mr, "ct": ct.contiguous(), "body": ones, "seen": ones.clone(), "places": places}, path)
    return path


def how(rotation: float = 0.0, scale: float = 0.0, missing: float = 0.5) -> Randomisation:
    return Randomisation(
        (8, 8, 8), 1.0, rotation, scale, artefacts=0.0, contrasts=(ANY,) * 3, missing=missing
    )


def test_a_ramp_keeps_its_slope_and_a_turn_makes_it_less_steep(tmp_path: Path) -> None:
    path = kept(tmp_path)
    for n in range(6):
        ct = RealPairs([path], how(), 0)[n]["ct"][0]
        assert torch.allclose(ct.diff(dim=2), torch.tensor(10.0), atol=0.02)
        assert float(ct.diff(dim=0).abs().max()) < 0.02
    slopes = []
    for n in range(6):
        ct = RealPairs([path], how(rotation=20.0), 0)[n]["ct"][0]
        slope = torch.stack([ct.diff(dim=axis).mean() for axis in range(3)])
        assert abs(float(slope.norm()) - 10.0) < 0.05  # a turn changes no length
        slopes.append(float(slope[2]))
    assert min(slopes) < 9.99
    assert min(slopes) > 10 * math.cos(math.radians(20)) ** 2  # about two axes at most


def test_samples_follow_from_seed_and_number_and_have_the_synthetic_ones_keys(tmp_path: Path) -> None:
    pairs = RealPairs([kept(tmp_path)], how(10.0, 0.1), 3)
    sample = pairs[5]
    assert all(torch.equal(value, pairs[5][name]) for name, value in sample.items())
    assert not torch.equal(sample["image"], pairs[6]["image"])
    assert {name: tuple(value.shape) for name, value in sample.items()} == {
        "image": (3, 8, 8, 8),
        "ct": (1, 8, 8, 8),
        "body": (1, 8, 8, 8),
    }
    filled = Counter()
    for n in range(40):
        there = [bool(channel.any()) for channel in pairs[n]["image"]]
        assert there == sorted(there, reverse=True)  # missing contrasts stand last
        filled[sum(there)] += 1
    assert set(filled) == {1, 2}  # of two contrasts each is left out at times, never both


class Plain(Dataset[dict[str, Tensor]]):
    def __init__(self, value: float) -> None:
        self.value = value

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, _: int) -> dict[str, Tensor]:
        names = ("image", "ct", "body", "labels") if self.value == 0 else ("image", "ct", "body")
        return dict.fromkeys(names, torch.tensor([self.value]))


def test_half_of_a_mixture_is_real_and_every_sample_has_the_same_keys() -> None:
    mixed = Mixed(Plain(0.0), Plain(1.0), 0.5, seed=2)
    kinds = [float(mixed[n]["ct"]) for n in range(1000)]
    assert abs(sum(kinds) / 1000 - 0.5) < 0.06  # four standard deviations of a fair coin
    assert {tuple(mixed[n]) for n in range(20)} == {("image", "ct", "body")}
    assert kinds[:50] == [float(Mixed(Plain(0.0), Plain(1.0), 0.5, seed=2)[n]["ct"]) for n in range(50)]
    assert all(Mixed(Plain(0.0), Plain(1.0), 1.0, seed=0).is_real(n) for n in range(20))


def ready(patient: str, n: int) -> Ready:
    files = PairFiles(f"pair {n}", "SynthRAD", patient, (Path("mr"),), Path("ct"))
    return Ready(files, Path(f"{n}"), f"key {n}", (0,))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_no_patient_is_on_both_sides_and_none_depends_on_the_order(share: float) -> None:
    pairs = [ready(f"patient {n // 3}", n) for n in range(30)]
    training, held_out = split_patients(pairs, share)
    taught, tested = ({p.files.patient for p in part} for part in (training, held_out))
    assert not taught & tested
    assert len(taught | tested) == 10
    assert len(tested) == min(max(round(10 * share), 1), 9)
    assert {p.key for p in split_patients(pairs[::-1], share)[1]} == {p.key for p in held_out}
    with pytest.raises(ValueError, match="two patients or more"):
        split_patients(pairs[:3], share)


def test_what_no_contrast_sees_is_no_body_and_air() -> None:
    grid = Grid((30, 30, 30), np.diag([2.0, 2.0, 2.0, 1.0]))
    body = sphere(grid, grid.center, 20.0)
    ct = Volume(torch.where(body, 40.0, -1000.0)[None], grid, Quantity.HU)
    mr = Volume(body[None].float() * 100, grid, Quantity.MR)
    cut = Volume(mr.data.clone(), grid, Quantity.MR)
    cut.data[..., 15:] = 0  # the upper half lies beyond its field of view
    whole, half = (tensors_of(Pair((scan,), ct, body), 4.0) for scan in (mr, cut))
    volume = float(whole["body"].sum()) * 4.0**3
    assert abs(volume / (4 / 3 * math.pi * 20.0**3) - 1) < 0.05
    assert abs(float(half["body"].sum()) / float(whole["body"].sum()) - 0.5) < 0.1
    assert int(whole["ct"].max()) == 40
    assert int(half["ct"][~half["seen"].bool()].max()) == -1000
