"""The bulk-density synthetic CT."""

import numpy as np
import pytest
import torch

from imaging.grid import Grid
from imaging.tissue import SIMPLER, Tissue
from imaging.volume import Quantity, Volume
from mr2ct.bulk import AIR_HU, BULK_HU, to_ct

GRID = Grid((24, 24, 8), np.diag([1.0, 1.0, 3.0, 1.0]))


def blocks() -> Volume:
    """Outside, then skull, then brain along i."""
    labels = torch.zeros((1, *GRID.shape), dtype=torch.uint8)
    labels[:, 4:14] = Tissue.SKULL
    labels[:, 14:] = Tissue.WHITE
    return Volume(labels, GRID, Quantity.LABEL, "1.2.3")


def test_every_tissue_has_a_ct_number() -> None:
    assert set(BULK_HU) | set(SIMPLER) == set(Tissue)


@pytest.mark.parametrize(
    ("tissue", "density"),
    [(Tissue.MARROW, 1.18), (Tissue.WHITE, 1.04), (Tissue.SCALP, 1.05)],
)
def test_ct_numbers_give_back_the_densities_of_icru_46(tissue: Tissue, density: float) -> None:
    hu = BULK_HU[tissue]
    # Schneider et al. 2000, eqs. 22 and 23: bone above 100 HU, soft tissue below.
    found = 1.017 + 0.592e-3 * hu if hu > 100 else 1.003 + 1.169e-3 * hu
    assert found == pytest.approx(density, abs=0.002)


def test_tables_and_diploe_together_weigh_as_much_as_the_cranium_of_icru_46() -> None:
    whole = 0.7 * BULK_HU[Tissue.SKULL] + 0.3 * BULK_HU[Tissue.MARROW]
    assert 1.017 + 0.592e-3 * whole == pytest.approx(1.61, abs=0.002)


def test_inside_a_tissue_stands_its_number_and_outside_air() -> None:
    ct = to_ct(blocks())
    assert ct.quantity is Quantity.HU
    assert ct.data[0, 9, 12, 4] == pytest.approx(BULK_HU[Tissue.SKULL], abs=0.5)
    assert ct.data[0, 20, 12, 4] == pytest.approx(BULK_HU[Tissue.WHITE], abs=0.5)
    assert (ct.data[0, :4] == AIR_HU).all()


def test_a_border_of_bone_and_brain_is_mixed_but_the_skin_is_sharp() -> None:
    ct = to_ct(blocks()).data[0]
    assert BULK_HU[Tissue.WHITE] + 50 < ct[14, 12, 4] < BULK_HU[Tissue.SKULL] - 50
    assert ct[4, 12, 4] == pytest.approx(BULK_HU[Tissue.SKULL], abs=0.5)


def test_ct_keeps_grid_and_frame_of_the_labels() -> None:
    ct = to_ct(blocks())
    assert ct.grid == GRID
    assert ct.frame == "1.2.3"


def test_unknown_labels_and_other_quantities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected tissue labels 0\.\.23, got 0\.\.99"):
        to_ct(
            Volume(
                torch.tensor([0, 99]).repeat(4).reshape(1, 2, 2, 2),
                Grid((2, 2, 2), np.eye(4)),
                Quantity.LABEL,
            )
        )
    with pytest.raises(ValueError, match="expected a volume in label"):
        to_ct(Volume(torch.zeros((1, 2, 2, 2)), Grid((2, 2, 2), np.eye(4)), Quantity.HU))
