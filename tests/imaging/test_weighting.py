from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from imaging.dicom.weighting import weighting
from imaging.dicom.writer import write_mr
from imaging.grid import Grid
from imaging.source import Source
from imaging.volume import Quantity, Volume


def series(folder: Path, **header: object) -> Path:
    """Three slices whose header says so."""
    data = torch.rand(1, 8, 8, 3)
    write_mr(Volume(data, Grid((8, 8, 3), np.diag([1.0, 1, 3, 1])), Quantity.MR), Source(), folder)
    for file in folder.iterdir():
        dataset = dcmread(file)
        for name in ("EchoTime", "RepetitionTime", "InversionTime", "ScanningSequence"):
            if name in dataset:
                del dataset[name]
        for name, value in header.items():
            setattr(dataset, name, value)
        dataset.save_as(file)
    return folder


# Times of protocols at 3 T: those of the field's textbooks, as any scanner's console shows them.
@pytest.mark.parametrize(
    ("header", "contrast"),
    [
        ({"EchoTime": "3", "RepetitionTime": "2000", "InversionTime": "900", "ScanningSequence": "GR"}, "t1"),
        ({"EchoTime": "9", "RepetitionTime": "600", "ScanningSequence": "SE"}, "t1"),
        (
            {"EchoTime": "9", "RepetitionTime": "600", "ScanningSequence": "SE", "ContrastBolusAgent": "Gd"},
            "t1c",
        ),
        ({"EchoTime": "95", "RepetitionTime": "5000", "ScanningSequence": "SE"}, "t2"),
        (
            {"EchoTime": "120", "RepetitionTime": "9000", "InversionTime": "2500", "ScanningSequence": "IR"},
            "flair",
        ),
        ({"EchoTime": "20", "RepetitionTime": "30", "ScanningSequence": "GR"}, None),  # T2*
        ({"EchoTime": "20", "RepetitionTime": "2500", "ScanningSequence": "SE"}, None),  # proton density
        ({"SeriesDescription": "T2 FLAIR"}, None),  # somebody's words
    ],
)
def test_times_tell_the_contrast_and_words_do_not(header: dict, contrast: str | None, tmp_path: Path) -> None:
    assert weighting(series(tmp_path / "mr", **header)) == contrast


def test_enhanced_images_keep_their_times_in_groups(tmp_path: Path) -> None:
    timing, echo = Dataset(), Dataset()
    timing.RepetitionTime = 9000.0
    echo.EffectiveEchoTime = 120.0
    modifier = Dataset()
    modifier.InversionTimes = 2500.0
    shared = Dataset()
    shared.MRTimingAndRelatedParametersSequence = Sequence([timing])
    shared.MREchoSequence = Sequence([echo])
    shared.MRModifierSequence = Sequence([modifier])
    folder = series(
        tmp_path / "mr", SharedFunctionalGroupsSequence=Sequence([shared]), EchoPulseSequence="SPIN"
    )
    assert weighting(folder) == "flair"
