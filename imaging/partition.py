"""What parts the brain, as flags of each voxel of a map that travels."""

from enum import IntFlag


class Partition(IntFlag):
    """Where a voxel lies: on which side of falx and tentorium, and whether one of them is near."""

    NONE = 0
    LEFT = 1  # of the falx; the patient's left
    BELOW = 2  # the tentorium, with the cerebellum
    BY_FALX = 4  # near enough that sides meet at the falx, not in the corpus callosum
    BY_TENTORIUM = 8
    VENTRICLE = 16
