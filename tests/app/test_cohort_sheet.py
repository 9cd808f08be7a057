import io
from types import MappingProxyType

import numpy as np
import pytest
import torch
from matplotlib.image import imread, imsave

from app.cohort_sheet import PAGES, ROWS, strip, write_sheets
from imaging.case import Case
from imaging.grid import Grid
from imaging.tissue import Tissue
from imaging.volume import Quantity, Volume
from synth.case import Made

TILE = 128


def made(center=(10, 20, 30), spacing=(1.0, 1.0, 1.0)) -> Made:
    grid = Grid((48, 48, 48), np.diag([*spacing, 1.0]))
    labels = torch.zeros(1, 48, 48, 48, dtype=torch.uint8)
    labels[:, 4:44, 4:44, 4:44] = Tissue.GREY
    i, j, k = center
    labels[:, i - 3 : i + 4, j - 3 : j + 4, k - 3 : k + 4] = Tissue.ENHANCING
    image = torch.zeros(1, 48, 48, 48)
    image[:, i - 3 : i + 4, j - 3 : j + 4, k - 3 : k + 4] = 100.0
    volumes = {"t1c": Volume(image, grid, Quantity.MR), "labels": Volume(labels, grid, Quantity.LABEL)}
    return Made("SPD-00000-000", Case(volumes), MappingProxyType({}))


def pixels(content: bytes) -> np.ndarray:
    return (imread(io.BytesIO(content))[..., :3] * 255).round().astype(int)


def test_slices_run_through_the_tumour_and_show_it_where_it_lies():
    picture = pixels(strip(made()))
    assert picture.shape == (TILE, 4 * TILE, 3)
    rows, columns = np.nonzero(picture[:, :TILE, 0] > 200)
    # Right at the left, front at the top: voxel 10 of 48 across, 20 of 48 down.
    assert columns.mean() / TILE == pytest.approx(10.5 / 48, abs=0.02)
    assert rows.mean() / TILE == pytest.approx(20.5 / 48, abs=0.02)
    orange = (picture == (230, 85, 0)).all(axis=2)
    tiles = [orange[:, n * TILE : (n + 1) * TILE] for n in range(1, 4)]
    middles = [(np.nonzero(t)[1].mean() / TILE, np.nonzero(t)[0].mean() / TILE) for t in tiles]
    expected = [(10.5 / 48, 20.5 / 48), (10.5 / 48, 1 - 30.5 / 48), (20.5 / 48, 1 - 30.5 / 48)]
    np.testing.assert_allclose(middles, expected, atol=0.02)


def test_pixels_are_square_where_voxels_are_not():
    picture = pixels(strip(made(spacing=(1.0, 1.0, 2.0))))
    coronal = (picture[:, 2 * TILE : 3 * TILE] == (230, 85, 0)).all(axis=2)
    rows, columns = np.nonzero(coronal)
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(2.0, rel=0.15)


def test_the_same_case_is_the_same_bytes():
    assert strip(made()) == strip(made())


def test_pages_hold_so_many_rows_and_there_are_no_more_than_so_many(tmp_path):
    path = tmp_path / "strip.png"
    imsave(path, np.zeros((TILE, TILE, 3), dtype=np.uint8))
    pages = write_sheets([("a", path)] * (ROWS + 1), tmp_path)
    assert [p.name for p in pages] == ["contact_sheet_01.png", "contact_sheet_02.png"]
    assert [imread(p).shape[0] for p in pages] == [ROWS * TILE, TILE]
    assert len(write_sheets([("a", path)] * (ROWS * PAGES + 1), tmp_path)) == PAGES
