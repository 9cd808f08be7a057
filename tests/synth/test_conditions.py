import numpy as np
import pytest
import torch
from torch import Tensor

from imaging.brats import to_brats
from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.conditions import (
    N_CLASSES,
    ConditionClass,
    Shares,
    box_planes,
    classes_of,
    drawn_known,
    from_bits,
    from_drawn_bits,
    planes,
    tissues_of,
    to_bits,
    told,
    tumour_mask,
    with_brats,
)

CONTRASTS, REGION, NOTHING = Shares(1.0, 0.0), Shares(0.0, 1.0), Shares(0.0, 0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_class() -> Tensor:
    return torch.arange(N_CLASSES, dtype=torch.uint8).reshape(1, 3, 2, 2)


def test_a_tumours_parts_are_those_that_brats_labels_name() -> None:
    tissues = torch.arange(len(Tissue), dtype=torch.uint8).reshape(1, 2, 3, 4)
    labels = Volume(tissues, Grid((2, 3, 4), np.eye(4)), Quantity.LABEL)
    numbers = to_brats(labels).data
    classes = classes_of(tissues)
    # NCR 1, ED 2, ET 3, RC 4 follow one another from plane 8 on.
    assert torch.equal(classes[numbers > 0], numbers[numbers > 0] + 7)
    assert bool((classes[numbers == 0] < ConditionClass.NCR).all())


def test_every_class_has_a_tissue_that_is_of_it() -> None:
    classes = every_class()
    back = classes_of(tissues_of(classes))
    assert torch.equal(back[classes != ConditionClass.BRAIN], classes[classes != ConditionClass.BRAIN])
    assert torch.equal(back[classes == ConditionClass.BRAIN], torch.tensor([6], dtype=torch.uint8))


def test_planes_are_one_at_each_voxel_in_the_plane_of_its_class() -> None:
    classes = every_class()
    found = planes(classes)
    assert found.shape == (1, 12, 3, 2, 2)
    assert torch.equal(found.sum(dim=1), torch.ones(1, 3, 2, 2))
    assert torch.equal(found.argmax(dim=1), classes.long())


def test_a_brats_tumour_lies_over_the_tissues() -> None:
    classes = torch.full((2, 3), int(ConditionClass.BRAIN))
    tumour = torch.tensor([[0, 1, 2], [3, 4, 0]])
    assert with_brats(classes, tumour).tolist() == [[1, 8, 9], [10, 11, 1]]


def test_unknown_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="tissues from 0 to 23, got 0 to 24"):
        classes_of(torch.tensor([0, 24]))
    with pytest.raises(ValueError, match="classes from 0 to 11"):
        planes(torch.full((1, 2, 2), 12))
    with pytest.raises(ValueError, match="BraTS labels from 0 to 4"):
        with_brats(torch.tensor([1]), torch.tensor([5]))
    with pytest.raises(ValueError, match="shape"):
        with_brats(torch.zeros(2, 2).long(), torch.zeros(3).long())
    with pytest.raises(ValueError, match="4 channels"):
        from_bits(torch.zeros(1, 3, 2, 2))


def test_analog_bits_come_back_as_the_classes_they_were() -> None:
    classes = every_class()
    bits = to_bits(classes)
    assert bits.shape == (1, 4, 3, 2, 2)
    assert sorted(set(bits.flatten().tolist())) == [-1.0, 1.0]
    assert bits[0, :, 2, 1, 0].tolist() == [1.0, -1.0, 1.0, -1.0]  # ET, 10, is 1010
    assert torch.equal(from_bits(bits), classes)
    noisy = bits + 0.99 * (2 * torch.rand(bits.shape, generator=seeded()) - 1)
    assert torch.equal(from_bits(noisy), classes)


def test_noise_that_is_alone_in_its_voxel_is_drawn_over() -> None:
    classes = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
    classes[:, 8:] = ConditionClass.ET
    bits = to_bits(classes)
    wrong = torch.rand(1, 1, 16, 16, 16, generator=seeded()) < 0.05
    found = torch.where(wrong, -bits, bits)
    assert float((from_bits(found) != classes).float().mean()) > 0.03
    off = from_drawn_bits(found) != classes
    assert float(off.float().mean()) < 0.003
    assert torch.equal(from_drawn_bits(bits), classes)  # a flat border stays where it is


def test_bits_of_no_class_are_taken_for_the_nearest() -> None:
    # 13 is 1101: with the weakest bit turned it is 9, 1001.
    bits = torch.tensor([1.0, 0.1, -0.8, 0.9]).reshape(1, 4, 1, 1)
    assert from_bits(bits).item() == 9


def test_boxes_have_their_area_in_their_classs_plane() -> None:
    boxes = torch.tensor([[2.0, 0.5, 0.43, 0.08, 0.121559], [0.0, 0.25, 0.75, 0.1, 0.2]])
    found = box_planes(boxes, 3, (256, 128))
    areas = [0.1 * 0.2, 0.0, 0.08 * 0.121559]
    assert found.sum(dim=(1, 2)).tolist() == pytest.approx([a * 256 * 128 for a in areas], rel=1e-4)
    assert float(found.max()) == 1.0


def test_a_boxs_centre_runs_along_the_rows_by_its_second_number() -> None:
    plane = box_planes(torch.tensor([[0.0, 0.75, 0.25, 0.25, 0.5]]), 1, (8, 8))[0]
    rows, columns = plane.nonzero().T
    assert (int(rows.min()), int(rows.max())) == (0, 3)
    assert (int(columns.min()), int(columns.max())) == (5, 6)


def test_a_box_over_the_border_is_cut_and_boxes_of_one_class_are_joined() -> None:
    over = torch.tensor([[0.0, 0.0, 0.5, 0.5, 0.5]])
    assert float(box_planes(over, 1, (8, 8)).sum()) == pytest.approx(2 * 4)
    twice = torch.cat([over, over])
    assert torch.equal(box_planes(twice, 1, (8, 8)), box_planes(over, 1, (8, 8)))


@pytest.mark.parametrize(
    "box",
    [[3.0, 0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.5, 0.1, 0.1], [0.0, 64, 64, 12, 10], [0.0, 0.5, 0.5, 0, 0.1]],
)
def test_boxes_that_are_none_are_refused(box: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected a class|expected centre"):
        box_planes(torch.tensor([box], dtype=torch.float32), 3, (128, 128))


def test_given_contrasts_are_whole_some_and_never_all() -> None:
    present = torch.ones(60, 4)
    known = drawn_known(present, torch.zeros(60, 4, 6, dtype=torch.bool), CONTRASTS, seeded())
    each = known.flatten(2)
    assert torch.equal(each.amin(2), each.amax(2))
    count = each.amax(2).sum(1)
    assert set(count.tolist()) == {1.0, 2.0, 3.0}
    assert bool((each.amax(2).sum(0) > 10).all())


def test_what_a_sample_lacks_is_never_given() -> None:
    present = torch.tensor([[True, False, True, False]]).expand(30, 4)
    tumour = torch.zeros(30, 8, 8, dtype=torch.bool)
    for shares in (CONTRASTS, REGION):
        known = drawn_known(present, tumour, shares, seeded())
        assert float(known[:, 1].max()) == float(known[:, 3].max()) == 0
        assert float(known.amax()) == 1
    alone = torch.tensor([[True, False]])
    assert float(drawn_known(alone, tumour[:1], CONTRASTS, seeded()).max()) == 0


@pytest.mark.parametrize("space", [(20, 16), (20, 16, 24)])
def test_a_given_surrounding_is_all_but_a_box_that_holds_the_tumour(space: tuple[int, ...]) -> None:
    tumour = torch.zeros(12, *space, dtype=torch.bool)
    tumour[:6, 4:9, 6:8] = True
    known = drawn_known(torch.ones(12, 2), tumour, REGION, seeded())
    assert torch.equal(known[:, 0], known[:, 1])
    hidden = known[:, 0] == 0
    assert bool(hidden[tumour].all())
    for one in hidden:
        at = one.nonzero()
        box = at.amax(0) - at.amin(0) + 1
        assert int(box.prod()) == len(at)
        assert len(at) < one.numel()


def test_shares_are_met_and_the_same_seed_draws_the_same() -> None:
    present, tumour = torch.ones(1000, 2), torch.zeros(1000, 6, 6, dtype=torch.bool)
    known = drawn_known(present, tumour, Shares(0.3, 0.2), seeded(1))
    some = known.flatten(1).amax(1) > 0
    whole = (known.flatten(2).amin(2) == 1).any(1)
    assert float(whole.float().mean()) == pytest.approx(0.3, abs=0.05)
    assert float((some & ~whole).float().mean()) == pytest.approx(0.2, abs=0.05)
    assert torch.equal(known, drawn_known(present, tumour, Shares(0.3, 0.2), seeded(1)))
    assert float(drawn_known(present, tumour, NOTHING, seeded()).max()) == 0


def test_conditions_are_left_out_for_their_share_of_samples() -> None:
    condition = torch.ones(2000, 3, 2, 2)
    out = told(condition, Shares(condition=0.15), seeded()).flatten(1)
    assert torch.equal(out.amin(1), out.amax(1))
    assert float((out.amax(1) == 0).float().mean()) == pytest.approx(0.15, abs=0.03)


def test_the_tumour_of_a_condition_is_where_its_parts_or_boxes_are() -> None:
    classes = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    classes[0, 0], classes[0, 1], classes[0, 2] = ConditionClass.GREY, ConditionClass.ED, ConditionClass.RC
    assert torch.equal(tumour_mask(planes(classes)), classes >= ConditionClass.NCR)
    boxes = box_planes(torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.5]]), 3, (8, 8))
    assert int(tumour_mask(boxes[None]).sum()) == 16


def test_shares_of_more_than_all_are_refused() -> None:
    with pytest.raises(ValueError, match="in all"):
        Shares(0.8, 0.3)
    with pytest.raises(ValueError, match="from 0 to 1"):
        Shares(-0.1, 0.3)
