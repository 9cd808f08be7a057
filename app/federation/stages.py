"""A round of secure aggregation in four requests: what each holds, and how a site answers it.

``train.keys`` asks for public keys, ``train.shares`` tells those of all and asks for letters to each,
``train.masked`` brings the others' letters and asks to learn, ``train.unmask`` tells who answered and asks
for shares: of the own mask of those who did, of the key of masks of those who did not, never both. What a
site keeps between them lies in its folder, readable by its user alone, until the round is over.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imaging.atomic import whole_file

from .secure import KEY, SEALED, SHARE, Secrets, letters, opened, threshold

KEYS, SHARES, MASKED, UNMASK = "train.keys", "train.shares", "train.masked", "train.unmask"
# Words of each request beyond those of all; bytes of each site's part of one, behind the site's number.
ASKS: Mapping[str, Mapping[str, int]] = {
    KEYS: {},
    SHARES: {"keys": 2 * KEY},
    MASKED: {"letters": SEALED},
    UNMASK: {"answered": 0, "lost": 0},
}
# The same of what a site answers in words.
GIVES: Mapping[str, Mapping[str, int]] = {
    KEYS: {"keys": 2 * KEY},
    SHARES: {"letters": SEALED},
    MASKED: {},
    UNMASK: {"shares": SHARE},
}
_SITE = 8  # bytes of a site's number
_MOST_SITES = 1000


def joined(parts: Mapping[int, bytes]) -> bytes:
    """Parts by site in a row, each behind its site's number."""
    return b"".join(site.to_bytes(_SITE, "little") + part for site, part in sorted(parts.items()))


def parts_of(word: bytes, size: int) -> dict[int, bytes]:
    """Parts by site, of a row of parts of one size.

    Raises
    ------
    ValueError
        If it is no such row, or names a site twice.
    """
    step = _SITE + size
    if len(word) % step or len(word) > step * _MOST_SITES:
        raise ValueError("expected a row of sites' parts, got another length")
    starts = range(0, len(word), step)
    found = {int.from_bytes(word[k : k + _SITE], "little"): word[k + _SITE : k + step] for k in starts}
    if len(found) != len(starts):
        raise ValueError("expected each site once in a row of parts, got one twice")
    return found


def fits(words: Mapping[str, object], sizes: Mapping[str, int]) -> bool:
    """Whether words are rows of parts of these sizes."""
    if set(words) != set(sizes):
        return False
    for name, size in sizes.items():
        word = words[name]
        try:
            if not isinstance(word, bytes) or (not parts_of(word, size) and name != "lost"):
                return False
        except ValueError:
            return False
    return True


class Held:
    """What a site keeps of a round between its requests, in a file of its own.

    Parameters
    ----------
    path
        Of the file; there is one round at a time.
    number
        The round.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number = path, number

    def begin(self, own: int) -> bytes:
        """New secrets, and the public keys of them."""
        secrets = Secrets(os.urandom(KEY), os.urandom(KEY), os.urandom(KEY))
        self._keep({"secrets": [part.hex() for part in (secrets.mask, secrets.channel, secrets.seed)]})
        return joined({own: b"".join(secrets.public())})

    def write(self, own: int, keys: bytes, least: int) -> bytes:
        """Letters for all others, once their keys are seen to be enough and its own to be among them.

        Raises
        ------
        ValueError
            If they are not, or letters were written before: shares under other keys would tell more.
        """
        told = self._told("secrets", without="keys")
        secrets, public = _secrets(told), parts_of(keys, 2 * KEY)
        if public.get(own) != b"".join(secrets.public()) or len(set(public.values())) != len(public):
            raise ValueError("expected the keys of all sites, each its own, got others")
        if len(public) < least:
            raise ValueError(f"expected the keys of {least} sites or more, got those of {len(public)}")
        written = letters(own, secrets, {site: key[KEY:] for site, key in public.items()})
        self._keep({**told, "keys": keys.hex(), "own": written.pop(own).hex()})
        return joined(written)

    def receive(self, own: int, word: bytes) -> tuple[Secrets, dict[int, bytes], list[int]]:
        """Letters of others: the secrets, public keys of masks and sites, all that masks are made of.

        Raises
        ------
        ValueError
            If letters came before, are of too few or of strangers, or do not open.
        """
        told = self._told("keys", without="shares")
        secrets, public = _secrets(told), parts_of(bytes.fromhex(told["keys"]), 2 * KEY)
        found = parts_of(word, SEALED)
        if found.keys() - public.keys() or own in found or len(found) + 1 < threshold(len(public)):
            raise ValueError("expected letters of two thirds of the sites, got others")
        shares = {
            site: b"".join(opened(own, secrets, site, public[site][KEY:], letter)).hex()
            for site, letter in found.items()
        }
        self._keep({**told, "shares": {own: told["own"], **shares}})
        return secrets, {site: key[:KEY] for site, key in public.items()}, sorted([own, *found])

    def reveal(self, answered: Sequence[int], lost: Sequence[int]) -> bytes:
        """Shares of the seeds of those who answered and of the keys of those who did not; then all is gone.

        Raises
        ------
        ValueError
            If a site is named as both, too few answered, or some are strangers.
        """
        told = self._told("shares")
        shares = {int(site): bytes.fromhex(both) for site, both in told["shares"].items()}
        n = len(parts_of(bytes.fromhex(told["keys"]), 2 * KEY))
        if set(answered) & set(lost) or {*answered, *lost} != set(shares) or len(answered) < threshold(n):
            raise ValueError("expected each site as one that answered or was lost, and two thirds of answers")
        self.path.unlink()
        return joined(
            {site: both[:SHARE] if site in answered else both[SHARE:] for site, both in shares.items()}
        )

    def _told(self, has: str, without: str = "") -> dict[str, Any]:
        """What is kept of this round, at the stage that is due."""
        told = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        if told.get("round") != self.number or has not in told or (without and without in told):
            raise ValueError("expected the requests of a round one after the other, got another order")
        return dict(told)

    def _keep(self, told: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with whole_file(self.path) as part:
            part.touch(mode=0o600)
            part.write_text(json.dumps({**told, "round": self.number}), encoding="utf-8")


def _secrets(told: Mapping[str, Any]) -> Secrets:
    return Secrets(*(bytes.fromhex(part) for part in told["secrets"]))
