import hashlib
import time

import numpy as np
import pytest
import torch

from imaging.case import Case
from imaging.phantoms import sphere
from imaging.structures import RoiType, named
from imaging.tissue import BONE, BRAIN, TUMOUR, Tissue
from imaging.volume import Quantity, Volume, expect_finite
from synth.anatomy import anatomy
from synth.artefacts import bias_field, blur, rician, texture
from synth.density import to_hu
from synth.patient import patient
from synth.tumour import Growth, grow


@pytest.fixture(scope="module")
def case() -> Case:
    return patient(7, 3.0)


def labels(case: Case) -> torch.Tensor:
    return case.volumes["labels"].data[0]


def digest(case: Case) -> str:
    out = hashlib.sha256()
    for name in sorted(case.volumes):
        out.update(case.volumes[name].data.numpy().tobytes())
    return out.hexdigest()


def mean(case: Case, name: str, *tissues: Tissue) -> float:
    inside = torch.isin(labels(case), torch.tensor(tissues, dtype=torch.uint8))
    return float(case.volumes[name].data[0][inside].mean())


def test_a_case_holds_four_contrasts_ct_and_labels_in_one_place(case: Case) -> None:
    quantities = {name: v.quantity for name, v in case.volumes.items()}
    mr = dict.fromkeys(("t1", "t1c", "t2", "flair"), Quantity.MR)
    assert quantities == {**mr, "ct": Quantity.HU, "labels": Quantity.LABEL}
    assert len({v.frame for v in case.volumes.values()} | {case.source.frame, case.structures.frame}) == 1
    assert len({v.grid for v in case.volumes.values()} | {case.structures.grid}) == 1
    for volume in case.volumes.values():
        expect_finite(volume)


def test_one_seed_gives_one_patient_to_the_byte_and_another_seed_another() -> None:
    a, b, c = patient(3, 6.0), patient(3, 6.0), patient(4, 6.0)
    assert digest(a) == digest(b) != digest(c)
    assert a.source == b.source
    assert a.source.frame != c.source.frame


def test_the_identity_is_plainly_made_up(case: Case) -> None:
    assert case.source.patient_id == "SYNTH-7"
    assert case.source.patient_name == "SYNTHETIC^PATIENT"
    assert case.source.modality == "MR"
    assert len(set(case.source.instance_uids)) == case.volumes["t1"].grid.shape[2]


@pytest.mark.parametrize("seed", range(6))
def test_the_tumour_lies_in_one_side_of_the_brain(seed: int) -> None:
    case = patient(seed, 4.0)
    gtv, brain = case.structures.mask("GTV"), case.structures.mask("Brain")
    assert named(case.structures, RoiType.GTV) == ["GTV"]
    volume = int(gtv.sum()) * case.structures.grid.voxel_volume / 1000
    assert 8 < volume < 60
    assert bool((brain | ~gtv).all())
    grid = case.structures.grid
    x = torch.nonzero(gtv)[:, 0] * grid.spacing[0] + grid.affine[0, 3]
    assert max(float((x > -2).float().mean()), float((x < 2).float().mean())) > 0.9


def test_necrosis_lies_within_the_rim_and_oedema_around_it(case: Case) -> None:
    tissue = labels(case)
    counts = {t: int((tissue == t).sum()) for t in TUMOUR if t is not Tissue.INFILTRATION}
    assert min(counts.values()) > 0
    necrosis = tissue == Tissue.NECROSIS
    neighbours = torch.zeros_like(necrosis)
    for axis in range(3):
        neighbours |= necrosis.roll(1, axis) | necrosis.roll(-1, axis)
    touching = tissue[neighbours & ~necrosis]
    assert float((touching == Tissue.ENHANCING).float().mean()) > 0.9


def test_left_eye_lies_at_plus_x_and_each_holds_a_globe(case: Case) -> None:
    grid = case.structures.grid
    for name, side in (("Eye_L", 1), ("Eye_R", -1)):
        eye = torch.nonzero(case.structures.mask(name))
        x = eye[:, 0].double().mean() * grid.spacing[0] + grid.affine[0, 3]
        assert 22 < side * float(x) < 42
        assert 5.5 < len(eye) * grid.voxel_volume / 1000 < 9.5


def test_the_brain_is_of_adult_size_and_holds_its_ventricles(case: Case) -> None:
    volume = int(case.structures.mask("Brain").sum()) * case.structures.grid.voxel_volume / 1000
    assert 1100 < volume < 1600


def test_images_keep_the_contrast_of_their_tissues(case: Case) -> None:
    assert mean(case, "t1", Tissue.FAT) > mean(case, "t1", Tissue.WHITE) > mean(case, "t1", Tissue.GREY)
    assert mean(case, "t2", Tissue.CSF) > mean(case, "t2", Tissue.GREY) > mean(case, "t2", Tissue.WHITE)
    assert mean(case, "flair", Tissue.OEDEMA) > mean(case, "flair", Tissue.WHITE)
    assert mean(case, "t1c", Tissue.ENHANCING) > 1.2 * mean(case, "t1", Tissue.ENHANCING)
    assert mean(case, "t1", Tissue.SKULL) < 0.6 * mean(case, "t1", Tissue.SCALP)


def test_the_true_ct_has_the_numbers_of_its_tissues(case: Case) -> None:
    assert mean(case, "ct", Tissue.WHITE) == pytest.approx(28, abs=8)
    assert mean(case, "ct", Tissue.GREY) == pytest.approx(39, abs=12)
    assert mean(case, "ct", Tissue.OUTSIDE) == pytest.approx(-1000, abs=15)
    assert 450 < mean(case, "ct", *BONE) < 1300
    assert float(case.volumes["ct"].data.min()) >= -1000


def test_a_coarse_patient_takes_seconds() -> None:
    start = time.process_time()
    patient(1, 4.0)
    assert time.process_time() - start < 10


def test_a_tumour_reaches_the_volume_asked_for() -> None:
    head = anatomy(3.0)
    grown = grow(head, Growth(volume_cc=20.0), torch.Generator().manual_seed(2))
    gtv = (grown.data == Tissue.NECROSIS) | (grown.data == Tissue.ENHANCING)
    assert int(gtv.sum()) * grown.grid.voxel_volume / 1000 == pytest.approx(20, rel=0.35)
    changed = grown.data != head.data
    was = head.data[changed]
    allowed = torch.tensor([*BRAIN, Tissue.CSF], dtype=torch.uint8)
    assert bool(torch.isin(was, allowed).all())


def test_a_tumour_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="room for a tumour"):
        grow(anatomy(8.0), Growth(volume_cc=2000.0), torch.Generator().manual_seed(0))


def test_a_tumour_without_a_brain_is_refused() -> None:
    head = anatomy(8.0)
    empty = Volume(torch.zeros_like(head.data), head.grid, Quantity.LABEL)
    with pytest.raises(ValueError, match="white matter"):
        grow(empty, Growth(), torch.Generator().manual_seed(0))


def test_hounsfield_units_need_labels(case: Case) -> None:
    with pytest.raises(ValueError, match="expected a volume in label"):
        to_hu(case.volumes["t1"], torch.Generator().manual_seed(0))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed of 0 or more"):
        patient(-1, 4.0)


def test_noise_of_the_background_is_rayleigh_with_its_published_mean() -> None:
    # Gudbjartsson & Patz 1995: mean of Rayleigh noise is sigma sqrt(pi/2).
    noise = rician(torch.zeros(60, 60, 60), 10.0, torch.Generator().manual_seed(0))
    assert float(noise.mean()) == pytest.approx(10 * np.sqrt(np.pi / 2), rel=0.01)


def test_blur_keeps_the_sum_and_has_its_width() -> None:
    image = torch.zeros(41, 41, 41)
    image[20, 20, 20] = 1
    out = blur(image, 8.0, 1.0)
    assert float(out.sum()) == pytest.approx(1, rel=1e-4)
    assert float(out[24, 20, 20] / out[20, 20, 20]) == pytest.approx(0.5, rel=0.01)


def test_a_bias_field_is_smooth_and_centred_on_one() -> None:
    field = bias_field((40, 40, 40), 0.1, torch.Generator().manual_seed(0))
    assert float(field.log().mean()) == pytest.approx(0, abs=0.01)
    assert 0.03 < float(field.log().std()) < 0.2
    assert float(field.diff(dim=0).abs().max()) < 0.05


def test_texture_has_unit_variance_at_any_width() -> None:
    for fwhm in (1.0, 9.0):
        noise = texture((50, 40, 30), fwhm, 1.0, torch.Generator().manual_seed(0))
        assert noise.shape == (50, 40, 30)
        assert float(noise.std()) == pytest.approx(1, rel=1e-3)


def test_the_tumour_seed_stays_inside_a_ball_of_white_matter() -> None:
    head = anatomy(8.0)
    ball = sphere(head.grid, head.grid.center, 45.0)
    data = torch.where(ball, int(Tissue.WHITE), int(Tissue.OUTSIDE)).to(torch.uint8)[None]
    grown = grow(Volume(data, head.grid, Quantity.LABEL), Growth(), torch.Generator().manual_seed(1))
    assert bool((grown.data[0][~ball] == Tissue.OUTSIDE).all())
