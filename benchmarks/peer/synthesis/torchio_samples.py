"""Training samples by TorchIO from a label map: ``torchio_samples.py LABELS.npy N`` prints samples a second.

The same ingredients as ours: random affine map and elastic deformation, a random contrast for each label
(``RandomLabelsToImage``), bias field, thick slices, blur, noise and gamma, on 128³ voxels of 1 mm.
"""

import json
import sys
import time
import warnings

import numpy as np
import torch

warnings.simplefilter("ignore")
import torchio as tio  # noqa: E402 (its import warns)


def main() -> None:
    """Two processes at work, as ours."""
    labels = torch.from_numpy(np.load(sys.argv[1]))[None]
    n = int(sys.argv[2])
    transform = tio.Compose(
        [
            tio.RandomAffine(scales=0.12, degrees=15, translation=12, image_interpolation="nearest"),
            tio.RandomElasticDeformation(num_control_points=7, max_displacement=6),
            tio.CropOrPad((128, 128, 128)),
            tio.RandomLabelsToImage(label_key="labels", image_key="image", ignore_background=True),
            tio.RandomAnisotropy(downsampling=(2, 5), p=0.4),
            tio.RandomBlur(std=(0.3, 0.8)),
            tio.RandomBiasField(coefficients=0.3, order=3),
            tio.RandomNoise(std=(0, 0.08)),
            tio.RandomGamma(log_gamma=0.25),
            tio.RescaleIntensity(out_min_max=(0, 1), percentiles=(0.5, 99.5)),
        ]
    )
    torch.manual_seed(0)
    subject = tio.Subject(labels=tio.LabelMap(tensor=labels, affine=np.eye(4)))
    samples = tio.SubjectsDataset([subject] * (n + 2), transform=transform)
    loader = torch.utils.data.DataLoader(samples, batch_size=None, num_workers=2)
    stream = iter(loader)
    next(stream), next(stream)
    started = time.perf_counter()
    for _ in range(n):
        next(stream)
    print(json.dumps({"samples_per_second": n / (time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
