"""Ed25519 signatures (RFC 8032) of a report's manifest, detached: 64 bytes in a file beside it.

Anybody can check one with OpenSSL 3 alone::

    openssl pkeyutl -verify -pubin -inkey PUBLIC.pem -rawin -in report.json -sigfile report.json.sig
"""

from pathlib import Path
from typing import Any

from imaging.atomic import whole_file


def sign(manifest: Path, key: Path) -> Path:
    """The signature of a manifest, written beside it; gives its path.

    Parameters
    ----------
    manifest
        What is signed.
    key
        A private Ed25519 key in PEM (PKCS #8, without a passphrase), as ``openssl genpkey -algorithm
        ed25519`` writes it.

    Raises
    ------
    ValueError
        If the file holds no such key, or the package ``cryptography`` is not installed.
    """
    signature = private_key(key).sign(manifest.read_bytes())
    path = _signature_of(manifest)
    with whole_file(path) as part:
        part.write_bytes(signature)
    return path


def expect_signed(manifest: Path, trusted: Path) -> None:
    """Refuse a manifest that the owner of a key did not sign.

    Parameters
    ----------
    manifest
        What was signed.
    trusted
        The public key in PEM.

    Raises
    ------
    ValueError
        If there is no signature, it is of another key or text, or the file holds no public Ed25519 key.
    """
    public = public_key(trusted)
    path = _signature_of(manifest)
    if not path.is_file():
        raise ValueError(f"expected a signature of {manifest.name}, got none; sign the report with --key")
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415, an extra

    try:
        public.verify(path.read_bytes(), manifest.read_bytes())
    except InvalidSignature:
        raise ValueError(
            f"expected {manifest.name} signed by the trusted key, got a signature of another key or text; "
            "do not use this report"
        ) from None


def _signature_of(manifest: Path) -> Path:
    return manifest.with_name(manifest.name + ".sig")


def private_key(path: Path) -> Any:
    """The private Ed25519 key in a PEM file. Raises a ValueError if it holds none."""
    ed25519, serialization = _package()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError("expected a private Ed25519 key in PEM without a passphrase, got something else")  # noqa: TRY004
    return key


def public_key(path: Path) -> Any:
    """The public Ed25519 key in a PEM file. Raises a ValueError if it holds none."""
    ed25519, serialization = _package()
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError("expected a public Ed25519 key in PEM, got something else")  # noqa: TRY004
    return key


def _package() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415, an extra
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "expected the package cryptography for signatures, got none; install spindose[signing]"
        ) from None
    return ed25519, serialization
