import pytest
import torch

from imaging.tissue import BONE, Tissue
from synth import composition
from synth.composition import OF, electron_density, hounsfield, mass_density, relative_electron_density
from synth.protocol import random_body
from synth.tissues import PROPERTIES, column

PROTONS = [t for t in Tissue if PROPERTIES[t].pd > 0]


def test_every_tissue_has_relaxation_times_a_ct_number_and_a_composition() -> None:
    assert set(PROPERTIES) == set(OF) == set(Tissue)


@pytest.mark.parametrize("tissue", PROTONS)
def test_t1_does_not_shorten_and_t2_hardly_lengthens_with_the_field(tissue: Tissue) -> None:
    # Bottomley et al., Med. Phys. 11, 425 (1984): T1 grows with frequency, T2 is nearly independent of it.
    low, high = PROPERTIES[tissue].t1
    assert high >= low
    assert PROPERTIES[tissue].t2[1] <= 1.2 * PROPERTIES[tissue].t2[0]
    assert PROPERTIES[tissue].t2[0] < low


def test_nothing_holds_more_protons_than_fluid() -> None:
    assert float(column("pd").max()) == 1.0
    assert float(column("pd")[Tissue.CSF]) == 1.0
    assert float(column("pd")[Tissue.METAL]) == float(column("pd")[Tissue.AIR]) == 0.0


def test_the_optic_nerve_has_the_t1_of_stanisz_at_3_tesla() -> None:
    assert PROPERTIES[Tissue.NERVE].t1[1] == 1083


@pytest.mark.parametrize("material", [composition.WATER, composition.SILICONE, *OF.values()])
def test_mass_fractions_add_up_to_one(material: composition.Composition) -> None:
    assert sum(material.values()) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("material", "density", "published"),
    [
        (composition.WATER, 1.0, 1.0),
        (composition.MUSCLE, 1.05, 1.040),
        (composition.ADIPOSE, 0.95, 0.951),
        (composition.CORTICAL_BONE, 1.92, 1.781),
        (composition.GREY, 1.04, 1.035),
    ],
)
def test_electron_density_is_the_published_one(
    material: composition.Composition, density: float, published: float
) -> None:
    # Schneider, Pedroni & Lomax, Phys. Med. Biol. 41, 111 (1996), on ICRU and Woodard & White tissues; from
    # memory, unverified.
    assert electron_density(material, density) == pytest.approx(published, abs=2e-3)


@pytest.mark.parametrize(
    ("material", "density", "published"),
    [
        (composition.WATER, 1.0, 0.0),
        (composition.MUSCLE, 1.05, 43.0),
        (composition.MARROW, 1.03, 11.0),
        (composition.ADIPOSE, 0.95, -77.0),
        (composition.CORTICAL_BONE, 1.92, 1524.0),
    ],
)
def test_ct_numbers_are_those_of_the_stoichiometric_paper(
    material: composition.Composition, density: float, published: float
) -> None:
    # Schneider, Bortfeld & Schlegel (2000), table 1 and 2; from memory, unverified.
    assert hounsfield(material, density) == pytest.approx(published, abs=1.0)


def test_bone_lies_between_its_attenuation_at_60_and_at_80_kev() -> None:
    # NIST: 0.3148 and 0.2229 cm²/g for cortical bone, 0.2059 and 0.1837 for water.
    hu = hounsfield(composition.CORTICAL_BONE, 1.92)
    assert 1000 * (1.92 * 0.2229 / 0.1837 - 1) < hu < 1000 * (1.92 * 0.3148 / 0.2059 - 1)


@pytest.mark.parametrize("tissue", [t for t in Tissue if t not in (Tissue.OUTSIDE, Tissue.AIR, Tissue.METAL)])
def test_density_and_composition_give_the_ct_number_back(tissue: Tissue) -> None:
    hu = torch.tensor([PROPERTIES[tissue].hu])
    density = float(mass_density(tissue, hu))
    if tissue in composition.MIXED:
        compact = (density - composition.MARROW_DENSITY) / (1.92 - composition.MARROW_DENSITY)
        back = compact * hounsfield(composition.CORTICAL_BONE, 1.92) + (1 - compact) * hounsfield(
            composition.MARROW, composition.MARROW_DENSITY
        )
    else:
        back = hounsfield(OF[tissue], density)
    assert back == pytest.approx(float(hu), abs=0.1)


def test_bone_as_dense_as_compact_bone_is_compact_bone() -> None:
    hu = torch.tensor([hounsfield(composition.CORTICAL_BONE, 1.92)])
    assert float(mass_density(Tissue.SKULL, hu)) == pytest.approx(1.92, rel=1e-5)
    assert float(relative_electron_density(Tissue.SKULL, hu)) == pytest.approx(1.781, abs=1e-3)


def test_denser_tissues_hold_more_electrons() -> None:
    order = [Tissue.AIR, Tissue.FAT, Tissue.CSF, Tissue.GREY, Tissue.MARROW, *BONE[::2], Tissue.METAL]
    values = [float(relative_electron_density(t, torch.tensor([PROPERTIES[t].hu]))) for t in order]
    assert values == sorted(values)


def test_subjects_differ_by_the_variation_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    table = column("t1", 1.5)
    draws = torch.stack([(random_body(1.5, 0.05, generator).t1 / table).log() for _ in range(400)])
    assert float(draws.mean()) == pytest.approx(0, abs=2e-3)
    # Cut off at two standard deviations, a normal distribution keeps 0.96 of its own.
    assert float(draws.std()) == pytest.approx(0.05 * 0.96, rel=0.03)


def test_a_body_at_7_tesla_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.5 or 3 T, got 7"):
        random_body(7.0, 0.03, torch.Generator())
