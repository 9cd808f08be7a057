"""Secure aggregation: masks that cancel in the sum, so that a server learns what sites gave together alone.

Practical secure aggregation of Bonawitz et al. (CCS 2017), all sites being neighbours, against a server
that looks but keeps to the protocol, and lost sites as long as two thirds stay. Each two sites agree on a
mask, which one adds and the other takes away; each adds a mask of its own besides. Seeds are shared out
among all (Shamir): of a site that answered its own mask's is put together again, of one
that did not those with others; of none both. Masks are streams of ChaCha20 under keys of X25519, where
Flower 1.41 draws them from 32 bits, which can all be tried. Numbers are whole, modulo 2 to the 64.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from Crypto.Protocol.SecretSharing import Shamir
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import Float32, Int64
from torch import Tensor

KEY = 32  # bytes of a key, public or private, and of a seed
SHARE = 34  # bytes of a share of one, behind its number
_HALF = 16  # bytes that Shamir shares at once
_STEPS = 2**23  # of a number up to its reach
_NONCE, _TAG = bytes(16), 16
_NUMBER = 12  # bytes that a message is never sealed with twice
SEALED = _NUMBER + 2 * SHARE + _TAG

Row = Float32[Tensor, " n"]
Masked = Int64[Tensor, " n"]


@dataclass(frozen=True)
class Secrets:
    """What a site keeps to itself of a round.

    Parameters
    ----------
    mask, channel
        Private keys of X25519: masks with others come of one, letters to others of the other.
    seed
        Of the site's own mask.
    """

    mask: bytes
    channel: bytes
    seed: bytes

    def public(self) -> tuple[bytes, bytes]:
        """The public keys of both."""
        return public_of(self.mask), public_of(self.channel)


def public_of(private: bytes) -> bytes:
    """The public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def threshold(n: int) -> int:
    """How many of so many sites can put a seed together: more than two thirds."""
    return 2 * n // 3 + 1


def shared_out(secret: bytes, n: int) -> list[bytes]:
    """Shares of a key for so many sites, of which :func:`threshold` give it back (pycryptodome's Shamir)."""
    halves = [Shamir.split(threshold(n), n, half, ssss=False) for half in (secret[:_HALF], secret[_HALF:])]
    return [k.to_bytes(2, "little") + a + b for (k, a), (_, b) in zip(*halves, strict=True)]


def put_together(shares: Sequence[bytes]) -> bytes:
    """The key that shares are of; something else where they are too few."""
    numbers = [int.from_bytes(share[:2], "little") for share in shares]
    halves = ([share[at : at + _HALF] for share in shares] for at in (2, 2 + _HALF))
    return b"".join(Shamir.combine(list(zip(numbers, half, strict=True)), ssss=False) for half in halves)


def agreed(private: bytes, public: bytes, use: str) -> bytes:
    """A key that two sites have in common for a use (X25519, RFC 7748; HKDF, RFC 5869).

    Raises
    ------
    ValueError
        If the public key is none.
    """
    secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(hashes.SHA256(), KEY, salt=None, info=f"spindose {use}".encode()).derive(secret)


def letters(own: int, secrets: Secrets, channels: Mapping[int, bytes]) -> dict[int, bytes]:
    """A site's shares of its seed and of its key of masks, sealed for each other site.

    Parameters
    ----------
    own
        The site's number.
    secrets
        What is shared out.
    channels
        Public keys of letters of all sites, its own among them.

    Returns
    -------
    dict
        For its own number the shares as they are.
    """
    sites, n = sorted(channels), len(channels)
    seeds, keys = (shared_out(what, n) for what in (secrets.seed, secrets.mask))
    out = {}
    for k, site in enumerate(sites):
        plain, number = seeds[k] + keys[k], os.urandom(_NUMBER)
        box = ChaCha20Poly1305(agreed(secrets.channel, channels[site], "letter"))
        out[site] = plain if site == own else number + box.encrypt(number, plain, _way(own, site))
    return out


def opened(own: int, secrets: Secrets, sender: int, channel: bytes, letter: bytes) -> tuple[bytes, bytes]:
    """The shares of a sender's seed and key of masks in a letter.

    Raises
    ------
    ValueError
        If it was not written by the sender to this site.
    """
    box = ChaCha20Poly1305(agreed(secrets.channel, channel, "letter"))
    try:
        plain = box.decrypt(letter[:_NUMBER], letter[_NUMBER:], _way(sender, own))
    except Exception as error:  # its errors have no common kind
        raise ValueError("expected a letter of another site, got one that does not open") from error
    return plain[:SHARE], plain[SHARE:]


def quantised(change: Row, weight: int, reach: float, generator: torch.Generator) -> Masked:
    """A weighted change in whole numbers, rounded by chance so that its mean stays; clamped to its reach."""
    steps = change.double().clamp(-reach, reach) * (_STEPS / reach)
    up = torch.rand(steps.shape, generator=generator, dtype=torch.float64)
    return (steps + up).floor().long() * weight


def masked(
    numbers: Masked, own: int, secrets: Secrets, masks: Mapping[int, bytes], peers: Sequence[int]
) -> Masked:
    """Numbers that look like chance to whoever lacks the masks.

    Parameters
    ----------
    numbers
        Whole.
    own
        The site's number.
    secrets
        Its own.
    masks
        Public keys of masks by site.
    peers
        Sites whose letters came; this one may be among them.
    """
    out = numbers.numpy().view(np.uint64) + _stream(secrets.seed, len(numbers))
    for site in peers:
        if site != own:
            out = _with(out, own, site, agreed(secrets.mask, masks[site], "mask"))
    return torch.from_numpy(out.view(np.int64))


def unmasked(
    rows: Mapping[int, Masked],
    masks: Mapping[int, bytes],
    seeds: Mapping[int, Sequence[bytes]],
    keys: Mapping[int, Sequence[bytes]],
) -> Masked:
    """The sum of masked numbers.

    Parameters
    ----------
    rows
        Of sites that answered.
    masks
        Public keys of masks of all whose letters were carried.
    seeds
        Shares of the own seed of each site that answered.
    keys
        Shares of the key of masks of each that did not.

    Raises
    ------
    ValueError
        If shares do not give what they are of.
    """
    total = np.zeros(len(next(iter(rows.values()))), dtype=np.uint64)
    for site, row in rows.items():
        total += row.numpy().view(np.uint64)
        total -= _stream(put_together(seeds[site]), len(total))
    for site in masks.keys() - rows.keys():
        key = put_together(keys[site])
        if public_of(key) != masks[site]:
            raise ValueError("expected shares of a lost site's key, got others")
        for other in rows:
            # What the other added for the lost one; the lost one's own half would have taken it away.
            total = _with(total, site, other, agreed(key, masks[other], "mask"))
    return torch.from_numpy(total.view(np.int64))


def mean_of(total: Masked, weight: int, reach: float) -> Row:
    """The weighted mean of changes, of the sum of their whole numbers and of weights."""
    return (total.double() * (reach / _STEPS / weight)).float()


def _with(numbers: np.ndarray, own: int, other: int, seed: bytes) -> np.ndarray:
    """Numbers with the mask of two sites: the lower number adds it, the higher takes it away."""
    stream = _stream(seed, len(numbers))
    return numbers + stream if own < other else numbers - stream


def _stream(seed: bytes, n: int) -> np.ndarray:
    """So many whole numbers of a seed (ChaCha20, RFC 8439); no seed is used twice."""
    encryptor = Cipher(algorithms.ChaCha20(seed, _NONCE), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * n)), dtype="<u8").astype(np.uint64)


def _way(sender: int, receiver: int) -> bytes:
    return f"{sender} {receiver}".encode()
