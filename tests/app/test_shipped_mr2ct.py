"""The networks of CT numbers that ship, on a real head that no training saw."""

import importlib
from pathlib import Path

import pytest

from app.ct_nets import INTERVALS, ZOO, calibration_of, read_nets, shipped
from imaging.agreement import dice
from imaging.nifti import read_nifti
from imaging.volume import Quantity
from mr2ct.baselines import AIR_BELOW
from mr2ct.convert import convert
from mr2ct.skull import skull
from mr2ct.unseen import UNKNOWN

# Dice outside the brain at 300 HU, 0.763 when these weights were made: labels call much of the face scalp.
BONE = 0.75
AIR = 0.45  # Dice of cavities; 0.498 when these weights were made


@pytest.fixture
def real_heads(monkeypatch):
    """A module of the benchmarks, which are no installed package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return importlib.import_module("benchmarks.real_heads")


def test_an_ensemble_ships_within_its_share_of_the_zoo() -> None:
    """Sixteen MiB of fp16 in all, of one configuration, with what was calibrated for it."""
    nets, config = read_nets()
    assert len(nets) == len(shipped()) == 2
    assert sum(path.stat().st_size for path in shipped()) <= 16 * 2**20
    assert config.net.inputs == 4
    assert (ZOO / INTERVALS).is_file()
    found = calibration_of(())
    assert found is not None
    assert found.patients >= 6
    assert calibration_of(shipped()) is None  # a user's own networks have intervals of their own


@pytest.mark.data
@pytest.mark.slow
def test_a_real_head_has_a_closed_skull_where_its_labels_say(data: Path, real_heads) -> None:
    head = data / "head"
    mr = read_nifti(head / "colin27_t1.nii.gz", Quantity.MR)
    truth = read_nifti(head / "colin27_labels.nii.gz", Quantity.LABEL).data[0]
    found = convert(mr, *read_nets())
    hu = found.ct.data[0]
    brain = real_heads.hull(real_heads.is_in(truth, 3, 4, 5))
    assert dice((truth == 2) & ~brain, (hu >= 300) & ~brain) > BONE
    inside = real_heads.hull(hu >= AIR_BELOW)
    assert dice(truth == 6, inside & (hu < AIR_BELOW)) > AIR
    assert dice(truth > 0, inside) > 0.97
    assert skull(found.ct).closed > 0.9
    assert 0 < float(found.uncertainty.data[0][truth > 0].mean()) < UNKNOWN
