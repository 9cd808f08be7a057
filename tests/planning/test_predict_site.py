"""Sites are files, and structures are known by any of their names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.grid import axial
from imaging.structures import RoiType, Structure, StructureSet
from planning.predict.site import matched, parse_site, read_site

GRID = axial(np.zeros(3), np.full(3, 20.0), (5.0,) * 3)
SMALLEST = "prescription = 60\n[[target]]\nname = 'PTV'\n"


def drawn(**prescriptions: float | None) -> StructureSet:
    inside = torch.ones(GRID.shape, dtype=torch.bool)
    return StructureSet(
        GRID, {n: Structure(inside, RoiType.PTV, (0, 0, 0), gy) for n, gy in prescriptions.items()}
    )


def test_openkbp_has_the_challenges_structures_metrics_and_beams() -> None:
    site = read_site("openkbp")
    assert [d.name for d in site.targets] == ["PTV70", "PTV63", "PTV56"]
    organs = {"Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible"}
    assert {d.name for d in site.organs} == organs
    assert (site.target_counts, site.organ_counts) == (("D99%", "D95%", "D1%"), ("D0.1cc", "Dmean"))
    assert np.diff(site.gantry).tolist() == [40.0] * 8


def test_both_sides_of_an_organ_share_a_plane() -> None:
    site = read_site("brain")
    sides = [d for d in site.organs if d.name.endswith(("_L", "_R"))]
    assert len(sides) == 12
    assert all(d.plane == d.name[:-2] for d in sides)
    assert read_site("openkbp").organ_planes.count("Parotid") == 1


def test_structures_are_known_by_synonyms_and_without_regard_to_case() -> None:
    found = matched(read_site("openkbp"), drawn(**{"ptv 70": 70.0, "Parotid_L": None, "spinal_cord": None}))
    assert found == {"PTV70": "ptv 70", "LeftParotid": "Parotid_L", "SpinalCord": "spinal_cord"}


def test_two_of_one_and_no_target_are_refused() -> None:
    site = read_site("openkbp")
    with pytest.raises(ValueError, match="one structure that is LeftParotid, got 2"):
        matched(site, drawn(PTV70=70.0, LeftParotid=None, Parotid_L=None))
    with pytest.raises(ValueError, match="expected a target of the site openkbp"):
        matched(site, drawn(PTV60=60.0))


def test_a_site_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prostate.toml"
    path.write_text(SMALLEST + "[[organ]]\nname = 'Bladder'\nsynonyms = ['Blase']\n", encoding="utf-8")
    site = read_site(str(path))
    assert (site.name, site.prescription, site.organs[0].synonyms) == ("prostate", 60.0, ("Blase",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prescription = ", "in TOML"),
        ("prescription = 60\n", "expected a site with a prescription"),
        ("prescription = 60\ntarget = 3\n", "expected a site with a prescription"),
        (SMALLEST.replace("60", "-1"), "prescription in Gy"),
        (SMALLEST + "[[organ]]\nname = 'ptv'\n", "every name of a site once, got ptv twice"),
        (SMALLEST + "[[organ]]\nname = 'Eye'\ncolour = 1\n", "expected a site with a prescription"),
        ("colour = 1\n" + SMALLEST, "no colour in a site"),
        ("gantry = [360]\n" + SMALLEST, "IEC 61217"),
        ("styles = ['a', 'a']\n" + SMALLEST, "every style of a site once"),
        ("styles = [1]\n" + SMALLEST, "expected a site with a prescription"),
        (SMALLEST + "[counts]\ntargets = ['V20Gy']\n", "to count, got V20Gy"),
    ],
)
def test_what_is_no_site_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_site("own", text)


def test_an_unknown_site_is_told_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"expected a site of brain, openkbp, or a TOML file"):
        read_site("knee")
