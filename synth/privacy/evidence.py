"""Whether images lie nearer to the training set than chance allows, outright and for where they lie."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .groups import Groups
from .sample import Match
from .tail import Tail, tail

Values = Float[Tensor, " _"]


@dataclass(frozen=True)
class Evidence:
    """Shares of images that lie too near.

    Parameters
    ----------
    absolute
        By the distance to the nearest training image.
    relative
        By that distance over the mean distance to the 50 nearest: Carlini et al., Extracting Training
        Data from Diffusion Models, USENIX Security 2023. Images of a common kind lie near to many; a
        copy lies near to one. Patients differ less in this, so that fewer of them tell a smaller share.
    """

    absolute: Tail
    relative: Tail

    @property
    def flagged(self) -> bool:
        """Whether chance does not explain one of them."""
        return self.absolute.flagged or self.relative.flagged

    @property
    def detectable(self) -> float | None:
        """Smallest share that one of them would have flagged; ``None`` where there is none."""
        shares = [t.detectable for t in (self.absolute, self.relative) if t.detectable is not None]
        return min(shares, default=None)


def evidence(
    found: Match,
    null: Match,
    alarm: float = 0.01,
    *,
    groups: Groups | None = None,
    null_groups: Groups | None = None,
) -> Evidence:
    """What distances to the training set say, beside those of images that nobody trained on.

    Parameters
    ----------
    found
        Distances of the images under test to the training set; correlations as 1 − r.
    null
        Those of held-out images.
    alarm
        Probability under which chance no longer explains a share.
    groups, null_groups
        The patient of each image, where patients give several.
    """

    def beyond(value: Values, expected: Values) -> Tail:
        return tail(value, expected, alarm=alarm, groups=groups, null_groups=null_groups)

    return Evidence(beyond(found.value, null.value), beyond(_relative(found), _relative(null)))


def _relative(match: Match) -> Values:
    # Where all neighbours coincide with the image there is no telling one from another.
    return (match.value / match.rivals).nan_to_num(nan=1.0)
