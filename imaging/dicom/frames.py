"""The planes of one DICOM image: one of a classic image, many of an enhanced one.

Multi-frame functional groups of DICOM PS3.3 C.7.6.16.2: what a frame does not say for itself,
the groups shared by all frames say for it.
"""

from pydicom.dataset import Dataset

from .attributes import whole_number
from .image_plane import ImagePlane, plane


def planes(dataset: Dataset) -> list[ImagePlane]:
    """Where each frame of an image lies, in the order of its pixels.

    Raises
    ------
    ValueError
        If a frame does not say where it lies, if the frames belong to several stacks, or if
        values follow a look-up table.
    """
    if "ModalityLUTSequence" in dataset:
        raise ValueError("expected values with slope and intercept, got a modality look-up table")
    if "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset:
        return _enhanced(dataset)
    if whole_number(dataset, "NumberOfFrames", 1) > 1:
        raise ValueError(
            "expected the place of every frame, got a multi-frame image without functional groups"
        )
    return [plane(dataset, dataset, dataset, dataset, dataset)]


def _enhanced(dataset: Dataset) -> list[ImagePlane]:
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), Dataset())
    own = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    n_frames = whole_number(dataset, "NumberOfFrames", 1)
    if len(own) != n_frames:
        raise ValueError(f"expected functional groups for {n_frames} frames, got {len(own)}; export again")
    stacks = {str(_group("FrameContentSequence", frame, shared).get("StackID", "")) for frame in own}
    if len(stacks) > 1:
        raise ValueError(f"expected one stack of slices, got {len(stacks)} in one file; export them apart")
    return [
        plane(
            _group("PlanePositionSequence", frame, shared),
            _group("PlaneOrientationSequence", frame, shared),
            _group("PixelMeasuresSequence", frame, shared),
            _group("PixelValueTransformationSequence", frame, shared),
            dataset,
        )
        for frame in own
    ]


def _group(keyword: str, frame: Dataset, shared: Dataset) -> Dataset:
    for groups in (frame, shared):
        sequence = groups.get(keyword)
        if sequence:
            return sequence[0]
    return Dataset()
