"""What sites are asked to learn together: one frozen description, its hash, and who signed it.

A study is all that a site has to trust: it says what is learnt, how long and how results are put together. It
travels with every request as JSON of one form, so that its SHA-256 names it and one approval covers it.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.fit import Fit

from .compression import BITS
from .learning import Budget
from .privacy import PRIVACIES, epsilon_of

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
STRATEGIES = ("fedavg", "fedprox", "fedadam")
AGGREGATIONS = ("mean", "median", "trimmed", "krum")
WEIGHTINGS = ("patients", "equal")
NORMS = ("shared", "local")
_LARGEST = 100_000  # characters of a study
_WHOLE = ("rounds", "steps", "batch", "least_sites")


@dataclass(frozen=True)
class Study:
    """A training that sites take part in.

    Parameters
    ----------
    name
        Small letters, digits and dashes.
    task
        What is learnt (:mod:`app.federation.tasks`).
    model
        The task's own settings.
    rounds
        In all.
    steps, batch
        Of each site in each round.
    learning_rate, warmup, muon
        As :class:`models.fit.Fit` has them; one cosine runs over all rounds, a warm-up begins each.
    strategy
        ``fedavg`` (McMahan et al., AISTATS 2017), ``fedprox`` (Li et al., MLSys 2020) or ``fedadam``
        (Reddi et al., ICLR 2021).
    proximal
        FedProx's mu.
    server_rate
        FedAdam's eta.
    aggregation
        How weights of sites become one: their ``mean``; or, against poisoned ones, their ``median`` or
        ``trimmed`` mean (Yin et al., ICML 2018), or the one that ``krum`` picks (Blanchard et al., NIPS
        2017).
    most_bad
        Sites that may be poisoned, at the most.
    share
        Of the sites that are there, asked in each round.
    least_sites
        Without which no round begins or counts.
    weighting
        By ``patients``, or ``equal``; means of ``median``, ``trimmed`` and ``krum`` are equal.
    privacy
        ``none``, or noise by a ``central`` server or ``local`` at each site (:mod:`app.federation.privacy`).
    clip, noise, delta
        Farthest (Euclidean) that a site may move the weights in a round, standard deviation of the noise over
        it, and the probability for which the budget is told.
    bits
        Of each weight in what leaves a site: 32, 8 or 4 (:mod:`app.federation.compression`).
    secure
        Whether the server sees sums alone (:mod:`app.federation.secure`).
    reach
        Greatest change of one weight in a round, with secure sums; what is beyond is cut.
    statistics
        Whether sites tell counts of their patients first (:mod:`app.federation.statistics`).
    norms
        Whether scales and shifts of normalisation are ``shared``, or stay ``local`` (Li et al., "FedBN", ICLR
        2021).
    seed
        Of first weights and samples.
    version
        Of Spindose, the same at every site.

    Raises
    ------
    ValueError
        If a word is unknown or a number cannot be.
    """

    name: str
    task: str
    model: Mapping[str, Any]
    rounds: int
    steps: int
    batch: int = 1
    learning_rate: float = 1.5e-3
    warmup: int = 2
    muon: bool = True
    strategy: str = "fedavg"
    proximal: float = 0.0
    server_rate: float = 1e-2
    aggregation: str = "mean"
    most_bad: int = 0
    share: float = 1.0
    least_sites: int = 2
    weighting: str = "patients"
    privacy: str = "none"
    clip: float = 0.0
    noise: float = 0.0
    delta: float = 1e-5
    bits: int = 32
    secure: bool = False
    reach: float = 0.0
    statistics: bool = False
    norms: str = "shared"
    seed: int = 0
    version: str = version("spindose")

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError("expected a study's name of small letters, digits and dashes, got another")
        for word, known in (
            ("strategy", STRATEGIES),
            ("aggregation", AGGREGATIONS),
            ("weighting", WEIGHTINGS),
            ("privacy", PRIVACIES),
            ("bits", BITS),
            ("norms", NORMS),
        ):
            if getattr(self, word) not in known:
                raise ValueError(f"expected {word} to be one of {', '.join(map(str, known))}, got another")
        if min(getattr(self, word) for word in _WHOLE) < 1 or not 0 < self.share <= 1:
            raise ValueError(f"expected {', '.join(_WHOLE)} of 1 or more and a share of 0 to 1, got others")
        rates = (self.learning_rate, self.proximal, self.server_rate, self.clip, self.noise, self.reach)
        if min(*rates, self.warmup, self.most_bad, self.seed) < 0:
            raise ValueError("expected rates, weights, counts and a seed of 0 or more, got a negative one")
        _expect_together(self)

    def budget(self, number: int) -> Budget:
        """What a site learns in a round, counted from 1."""
        part = ((number - 1) / self.rounds, number / self.rounds)
        how = Fit(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            muon=self.muon,
            part=part,
        )
        return Budget(how, self.proximal if self.strategy == "fedprox" else 0.0)

    def as_json(self) -> str:
        """The one form of it."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def epsilon(self, n_releases: int) -> float:
        """What so many rounds spend of privacy, at the study's delta; infinite without noise."""
        return epsilon_of(self.noise if self.privacy != "none" else 0.0, n_releases, self.delta)

    @property
    def digest(self) -> str:
        """SHA-256 of that form."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()


def study_of(text: str) -> Study:
    """The study that JSON tells.

    Raises
    ------
    ValueError
        If it is not a study in its one form.
    """
    try:
        study = made(json.loads(text)) if len(text) <= _LARGEST else None
    except (json.JSONDecodeError, RecursionError):
        study = None
    if study is None or study.as_json() != text:
        raise ValueError("expected a study in the form that `spindose federate` writes, got another text")
    return study


def read_study(path: Path) -> Study:
    """The study in a TOML file.

    Raises
    ------
    ValueError
        If it is no TOML, or tells no study.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a study as TOML, got none: {error}") from None
    return made(told)


def made(told: Any) -> Study:
    """A study of its words; every one of the type that it should be.

    Raises
    ------
    ValueError
        If a word is missing, unknown or of another type.
    """
    types = {f.name: f.type for f in fields(Study)}
    if not isinstance(told, dict) or told.keys() - types.keys():
        raise ValueError(f"expected a study of {', '.join(types)}, got other words")
    if missing := [word for word in ("name", "task", "model", "rounds", "steps") if word not in told]:
        raise ValueError(f"expected {missing[0]} of a study, got none")
    kinds: dict[Any, tuple[type, ...]] = {float: (float, int), Mapping[str, Any]: (dict,)}
    words: dict[str, Any] = {}
    for word, value in told.items():
        of = types[word]
        right = kinds.get(of, (of,) if isinstance(of, type) else ())
        if not isinstance(value, right) or (isinstance(value, bool) and of is not bool):
            raise ValueError(f"expected another kind of value for {word} of a study")
        words[word] = float(value) if of is float and isinstance(value, int) else value
    return Study(**words)


def signed(study: Study, private: Any) -> bytes:
    """The Ed25519 signature (RFC 8032) of a study, 64 bytes; see :func:`app.report.sign.private_key`."""
    return bytes(private.sign(study.as_json().encode()))


def asker_of(text: str, signature: bytes, keys: Mapping[str, Any]) -> str | None:
    """Whose key signed a study; None where nobody's did.

    Parameters
    ----------
    text
        The study as JSON.
    signature
        What came with it.
    keys
        Public keys by name (:func:`app.report.sign.public_key`).
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415, an extra

    for name, key in keys.items():
        try:
            key.verify(signature, text.encode())
        except InvalidSignature:
            continue
        return name
    return None


def _expect_together(study: Study) -> None:
    """Words that only mean something with others."""
    if (study.strategy == "fedprox") != (study.proximal > 0):
        raise ValueError("expected a proximal weight with fedprox and with no other strategy")
    if study.aggregation != "mean" and study.strategy == "fedadam":
        raise ValueError(
            "expected fedadam with the mean, got another aggregation; robust ones go with fedavg"
        )
    if study.aggregation in ("trimmed", "krum") and study.least_sites < 2 * study.most_bad + 3:
        raise ValueError(
            f"expected {2 * study.most_bad + 3} sites or more to find {study.most_bad} poisoned ones among, "
            f"got least_sites = {study.least_sites}"
        )
    private = study.privacy != "none"
    if private != (study.noise > 0) or private != (study.clip > 0) or not 0 < study.delta < 1:
        raise ValueError(
            "expected clip and noise above 0 with privacy and neither without it, and a delta between 0 and 1"
        )
    if private and (study.aggregation != "mean" or study.weighting != "equal"):
        raise ValueError("expected the mean of sites weighted equal with privacy, got another")
    if study.bits < max(BITS) and (study.secure or study.privacy == "central"):
        raise ValueError("expected 32 bits with secure sums and with noise of the server, got fewer")
    if study.secure != (study.reach > 0):
        raise ValueError("expected a reach above 0 with secure sums and none without them")
    if study.secure and (study.aggregation != "mean" or study.least_sites < 3):
        raise ValueError(
            "expected the mean of 3 sites or more with secure sums: of two each knows the other's"
        )
    if (study.most_bad > 0) != (study.aggregation in ("trimmed", "krum")):
        raise ValueError("expected most_bad with trimmed and krum, and with no other aggregation")
