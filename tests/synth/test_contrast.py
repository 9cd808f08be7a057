import math

import pytest
import torch

from imaging.tissue import Tissue
from synth import contrast
from synth.contrast import InversionRecovery, Mprage, SpinEcho, SpoiledGradientEcho
from synth.tissues import PROPERTIES, column


def signals(sequence: str, field: float, agent: bool = False) -> torch.Tensor:
    t1, t2, pd = (column(name, field) for name in ("t1", "t2", "pd"))
    if agent:
        t1 = contrast.with_agent(t1, column("uptake", field))
    if sequence == "t1":
        return contrast.mprage(pd, t1, t2, contrast.T1)
    if sequence == "t2":
        return contrast.spin_echo(pd, t1, t2, contrast.T2)
    return contrast.inversion_recovery(pd, t1, t2, contrast.FLAIR)


def bloch_mprage(t1: float, sequence: Mprage) -> float:
    """Longitudinal magnetisation followed pulse by pulse until nothing changes any more."""
    alpha = math.radians(sequence.flip)
    before = sequence.ti - sequence.n_echoes // 2 * sequence.spacing
    after = sequence.tr - before - sequence.n_echoes * sequence.spacing
    mz, middle = 1.0, 0.0
    for _ in range(12):
        mz = 1 + (-mz - 1) * math.exp(-before / t1)
        for echo in range(sequence.n_echoes):
            if echo == sequence.n_echoes // 2:
                middle = mz
            mz = 1 + (mz * math.cos(alpha) - 1) * math.exp(-sequence.spacing / t1)
        mz = 1 + (mz - 1) * math.exp(-after / t1)
    return abs(middle) * math.sin(alpha)


@pytest.mark.parametrize("t1", [382.0, 1084.0, 1820.0, 4300.0])
def test_mprage_agrees_with_magnetisation_followed_pulse_by_pulse(t1: float) -> None:
    sequence = Mprage(te=0.0)
    one = torch.ones(1)
    closed = contrast.mprage(one, torch.tensor([t1]), one, sequence)
    assert float(closed) == pytest.approx(bloch_mprage(t1, sequence), rel=1e-4)


def test_mprage_with_one_pulse_is_inversion_recovery() -> None:
    # After one 90 degree pulse nothing is left: Mz recovers for TR - TI, is inverted, recovers for TI.
    t1 = torch.tensor([900.0])
    sequence = Mprage(tr=4000.0, ti=700.0, spacing=1e-3, n_echoes=1, flip=90.0, te=0.0)
    mz = 1 - (2 - math.exp(-(4000 - 700) / 900)) * math.exp(-700 / 900)
    signal = contrast.mprage(torch.ones(1), t1, torch.ones(1), sequence)
    assert float(signal) == pytest.approx(abs(mz), rel=1e-4)


def test_spin_echo_recovers_fully_and_decays_with_t2() -> None:
    t2 = torch.tensor([80.0])
    signal = contrast.spin_echo(torch.ones(1), torch.tensor([500.0]), t2, SpinEcho(tr=1e6, te=80.0))
    assert float(signal) == pytest.approx(1 / math.e, rel=1e-6)


def test_inversion_recovery_is_null_at_its_null_time() -> None:
    ti = contrast.null_time(1000.0, tr=1e7)
    assert ti == pytest.approx(1000 * math.log(2))
    sequence = InversionRecovery(tr=1e7, te=0.0, ti=ti)
    signal = contrast.inversion_recovery(torch.ones(1), torch.tensor([1000.0]), torch.ones(1), sequence)
    assert float(signal) == pytest.approx(0, abs=1e-6)


def test_contrast_agent_adds_its_rate() -> None:
    # 0.5 mmol/l at 4.1 /(mmol/l s) on T1 = 1 s: 1 + 2.05 per second.
    t1 = contrast.with_agent(torch.tensor([1000.0]), torch.tensor([0.5]))
    assert float(t1) == pytest.approx(1000 / 3.05, rel=1e-6)


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_t1_weighted_brightness_falls_from_fat_over_white_and_grey_to_csf(field: float) -> None:
    s = signals("t1", field)
    assert s[Tissue.FAT] > s[Tissue.WHITE] > s[Tissue.GREY] > s[Tissue.CSF]


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_t2_weighted_brightness_falls_from_csf_over_grey_to_white(field: float) -> None:
    s = signals("t2", field)
    assert s[Tissue.CSF] > s[Tissue.OEDEMA] > s[Tissue.GREY] > s[Tissue.WHITE]


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_flair_nulls_csf_and_shows_oedema_brightest_of_brain(field: float) -> None:
    s = signals("flair", field)
    assert s[Tissue.CSF] < 0.1 * s[Tissue.WHITE]
    assert s[Tissue.OEDEMA] > s[Tissue.GREY] > s[Tissue.WHITE]


def test_contrast_agent_brightens_the_rim_above_white_matter_and_leaves_necrosis_dark() -> None:
    before, after = signals("t1", 3.0), signals("t1", 3.0, agent=True)
    assert before[Tissue.ENHANCING] < before[Tissue.WHITE]
    assert after[Tissue.ENHANCING] > 1.1 * after[Tissue.WHITE]
    assert after[Tissue.NECROSIS] < 0.6 * after[Tissue.WHITE]


def test_agent_shortens_t1_of_the_rim_by_the_published_838_ms() -> None:
    # Nöth et al. 2020: 838 ± 210 ms.
    t1 = torch.tensor([PROPERTIES[Tissue.ENHANCING].t1[1]])
    after = contrast.with_agent(t1, torch.tensor([PROPERTIES[Tissue.ENHANCING].uptake]))
    assert float(t1 - after) == pytest.approx(838, abs=210)


@pytest.mark.parametrize("name", ["t1", "t2", "flair"])
def test_cortical_bone_and_air_are_dark_in_every_contrast(name: str) -> None:
    s = signals(name, 3.0)
    assert s[Tissue.SKULL] < 0.05 * s[Tissue.WHITE]
    assert s[Tissue.AIR] == 0


def test_published_relaxation_times_stand_in_the_table() -> None:
    # Rooney et al. 2007 at 1.5 T, Stanisz et al. 2005 at 3 T.
    assert PROPERTIES[Tissue.WHITE].t1 == (656, 1084)
    assert PROPERTIES[Tissue.GREY].t1 == (1188, 1820)


def test_a_field_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.5 or 3 T, got 7"):
        column("t1", 7.0)


def test_a_train_that_does_not_fit_is_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="fits TI and TR"):
        contrast.mprage(one, one, one, Mprage(tr=1000.0))


def bloch_spoiled(t1: float, sequence: SpoiledGradientEcho) -> float:
    """Longitudinal magnetisation pulse by pulse, with the transverse part thrown away after each."""
    alpha = math.radians(sequence.flip)
    mz = 1.0
    for _ in range(4000):
        mz = 1 + (mz * math.cos(alpha) - 1) * math.exp(-sequence.tr / t1)
    return mz * math.sin(alpha)


@pytest.mark.parametrize(("t1", "flip"), [(382.0, 70.0), (1084.0, 20.0), (4300.0, 5.0)])
def test_spoiled_gradient_echo_agrees_with_magnetisation_followed_pulse_by_pulse(
    t1: float, flip: float
) -> None:
    sequence = SpoiledGradientEcho(tr=25.0, te=0.0, flip=flip)
    closed = contrast.spoiled_gradient_echo(torch.ones(1), torch.tensor([t1]), torch.ones(1), sequence)
    assert float(closed) == pytest.approx(bloch_spoiled(t1, sequence), rel=1e-4)


@pytest.mark.parametrize("t1", [500.0, 1500.0])
def test_a_spoiled_gradient_echo_is_brightest_at_the_ernst_angle(t1: float) -> None:
    flips = torch.arange(1.0, 90.0, 0.25)
    one = torch.ones(1)
    signal = [
        float(contrast.spoiled_gradient_echo(one, t1 * one, one, SpoiledGradientEcho(20.0, 0.0, float(f))))
        for f in flips
    ]
    best = float(flips[int(torch.tensor(signal).argmax())])
    assert best == pytest.approx(contrast.ernst_angle(t1, 20.0), abs=0.25)


def test_ninety_degrees_without_memory_is_saturation_recovery() -> None:
    sequence = SpoiledGradientEcho(tr=300.0, te=0.0, flip=90.0)
    signal = contrast.spoiled_gradient_echo(torch.ones(1), torch.tensor([900.0]), torch.ones(1), sequence)
    assert float(signal) == pytest.approx(1 - math.exp(-300 / 900), rel=1e-6)


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_t2_star_is_shorter_than_t2_and_shorter_still_at_3_tesla(field: float) -> None:
    t2 = torch.tensor([70.0])
    assert float(contrast.t2_star(t2, field)) < 70
    assert float(contrast.t2_star(t2, 3.0)) < float(contrast.t2_star(t2, 1.5))


@pytest.mark.parametrize("kind", ["spin_echo", "inversion_recovery", "mprage", "spoiled_gradient_echo"])
def test_every_signal_equation_has_the_gradient_of_its_differences(kind: str) -> None:
    sequence = {
        "spin_echo": contrast.T2,
        "inversion_recovery": contrast.FLAIR,
        "mprage": contrast.T1,
        "spoiled_gradient_echo": SpoiledGradientEcho(200.0, 4.0, 60.0),
    }[kind]
    # Seconds instead of milliseconds, so that differences of 1e-6 are small.
    values = [
        torch.tensor(v, dtype=torch.double, requires_grad=True) for v in ([0.8, 0.7], [1.1, 1.6], [0.07, 0.1])
    ]

    def signal(pd: torch.Tensor, t1: torch.Tensor, t2: torch.Tensor) -> torch.Tensor:
        return getattr(contrast, kind)(pd, 1000 * t1, 1000 * t2, sequence)

    assert torch.autograd.gradcheck(signal, tuple(values))


@pytest.mark.parametrize("field", [1.5, 3.0])
@pytest.mark.parametrize("kind", ["mprage", "spin_echo", "gradient_echo"])
def test_an_enhancing_rim_is_brighter_than_white_matter_in_every_t1_sequence(field: float, kind: str) -> None:
    t1, t2, pd = (column(name, field) for name in ("t1", "t2", "pd"))
    t1 = contrast.with_agent(t1, column("uptake"))
    s = {
        "mprage": contrast.mprage(pd, t1, t2, contrast.T1),
        "spin_echo": contrast.spin_echo(pd, t1, t2, SpinEcho(550.0, 12.0)),
        "gradient_echo": contrast.spoiled_gradient_echo(pd, t1, t2, SpoiledGradientEcho(200.0, 4.0, 70.0)),
    }[kind]
    assert s[Tissue.ENHANCING] > 1.1 * s[Tissue.WHITE]
