import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from app.cohort_summary import CutLogNormal, Tally, lines, summary
from synth.lesions import TumourRecipe
from synth.recipe import Recipe
from synth.statistics import Sizes


def traits(kind: str = "glioblastoma", **changes: Any) -> dict[str, Any]:
    lesions = [{"drawn_cc": 30.0, "asked_cc": 30.0, "core_cc": 30.3}] if kind != "none" else []
    out = {
        "tries": 1,
        "anatomy": {"age_years": 50.0, "sex": "F", "brain_cc": 1200.0, "csf_cc": 1.0, "bone_cc": 1.0},
        "tumour": {"kind": kind, "count": len(lesions), "lesions": lesions, "midline_shift_mm": 3.0},
        "surgery": {},
        "mri": {"field": 3.0, "t1": {"sequence": "mprage"}},
    }
    return {**out, **changes}


def check(found: dict[str, Any], what: str) -> dict[str, Any]:
    return next(one for one in found["checks"] if one["what"] == what)


def tally(kinds: list[str], **recipe: Any) -> Tally:
    out = Tally(dataclasses.replace(Recipe(), tumour=TumourRecipe(**recipe)))
    for kind in kinds:
        out.add(traits(kind))
    return out


def test_shares_are_judged_by_pearsons_chi_square():
    found = summary(
        tally(["glioblastoma"] * 60 + ["meningioma"] * 40, shares={"glioblastoma": 0.5, "meningioma": 0.5})
    )
    kind = check(found, "kind")
    # (60 - 50)^2 / 50 twice is 4, with one degree of freedom.
    assert kind["p"] == pytest.approx(stats.chi2.sf(4.0, 1))
    assert kind["expected"] == {"glioblastoma": 50.0, "meningioma": 50.0}
    assert kind["observed"] == {"glioblastoma": 60, "meningioma": 40}


def test_what_a_recipe_rules_out_has_no_chance():
    found = summary(tally(["low_grade"], shares={"glioblastoma": 1.0}))
    assert check(found, "kind")["p"] == 0.0
    assert any("Unlikely" in line and "kind" in line for line in lines(found))


def test_a_law_of_one_outcome_has_no_test():
    assert check(summary(tally(["glioblastoma"], shares={"glioblastoma": 1.0})), "kind")["p"] is None


def test_cut_log_normal_is_the_law_that_volumes_are_drawn_from():
    sizes = Sizes(30.0, 0.75, 2.0, 60.0)
    law = CutLogNormal(sizes)
    generator = torch.Generator().manual_seed(0)
    draws = np.array([sizes.draw(generator) for _ in range(2000)])
    assert stats.kstest(draws, law.cdf).pvalue > 0.01
    np.testing.assert_allclose(law.cdf(np.array([2.0, 60.0])), [0.0, 1.0], atol=1e-12)
    for share in (0.1, 0.5, 0.9):
        assert law.cdf(np.array([law.ppf(share)]))[0] == pytest.approx(share)


def test_volumes_of_another_law_are_unlikely():
    out = tally([])
    for n in range(200):
        lesion = {"drawn_cc": 60.0 + 0.1 * n, "asked_cc": 60.0, "core_cc": 60.0}
        out.add(
            traits(tumour={"kind": "glioblastoma", "count": 1, "lesions": [lesion], "midline_shift_mm": 0.0})
        )
    assert check(summary(out), "glioblastoma volume (cc)")["p"] < 1e-6


def test_volumes_are_judged_as_they_were_before_surgery():
    out = tally([])
    lesion = {"drawn_cc": 30.0, "asked_cc": 6.0, "core_cc": 6.0}
    tumour = {"kind": "glioblastoma", "count": 1, "lesions": [lesion], "midline_shift_mm": 0.0}
    out.add(traits(tumour=tumour, surgery={"extent": 1.0}))
    assert check(summary(out), "glioblastoma volume (cc)")["observed"]["median"] == 30.0
    assert check(summary(out), "surgery")["observed"] == {"operated": 1}


def test_achieved_volumes_and_figures_are_told():
    found = summary(tally(["glioblastoma", "none"]))
    assert found["achieved_over_asked"]["glioblastoma"]["worst"] == pytest.approx(1.01)
    assert found["measured"]["brain_cc"] == {"mean": 1200.0, "sd": 0.0, "least": 1200.0, "most": 1200.0}
    assert found["measured"]["midline_shift_mm"]["mean"] == 3.0
    assert found["made_again"] == 0


def test_five_metastases_or_more_count_as_one():
    out = tally([])
    for count in (1, 5, 9):
        lesions = [{"drawn_cc": 1.0, "asked_cc": 1.0, "core_cc": 1.0}] * count
        one = {"kind": "metastases", "count": count, "lesions": lesions, "midline_shift_mm": 0.0}
        out.add(traits(tumour=one))
    assert check(summary(out), "metastases")["observed"] == {"1": 1, "5 or more": 2}


def test_heads_that_were_given_have_no_age_to_judge():
    out = tally([])
    out.add(traits(anatomy={"name": "colin27"}, mri={"field": 1.5, "t1": {"sequence": "mprage"}}))
    whats = [c["what"] for c in summary(out)["checks"]]
    assert "sex" not in whats
    assert not any("age" in what for what in whats)


def test_cohorts_drawn_from_a_recipe_are_seldom_unlikely_under_it():
    from synth.illness import drawn, told

    out = tally([])
    generator = torch.Generator().manual_seed(1)
    for _ in range(400):
        ill = drawn(out.recipe.tumour, generator)
        lesions = [
            {**told(lesion), "drawn_cc": lesion.volume_cc, "core_cc": lesion.volume_cc}
            for lesion in ill.lesions
        ]
        one = {"kind": ill.kind.value, "count": len(lesions), "lesions": lesions, "midline_shift_mm": 0.0}
        out.add(traits(tumour=one, surgery={"extent": 1.0} if ill.operation else {}))
    judged = [
        c
        for c in summary(out)["checks"]
        if c["what"] not in ("age (years)", "sex", "field strength", "T1 sequence")
    ]
    assert len(judged) == 7
    assert min(c["p"] for c in judged) > 0.001
