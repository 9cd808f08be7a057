"""Keys and certificates of a federation: who asks, which node, and which server.

Leads sign studies with Ed25519; nodes prove themselves to SuperLink with a key on the curve P-384, as Flower
asks; the server's certificate is of an authority made here, for trials and sites without one of their own.
"""

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

_DAYS = 365
_PEM, _PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
_PLAIN = serialization.NoEncryption()


def lead_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A key that signs studies and its public one, as ``NAME.key`` and ``NAME.pem``.

    Raises
    ------
    ValueError
        If there is one already.
    """
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _secret(folder / f"{name}.key", key.private_bytes(_PEM, _PKCS8, _PLAIN)), _open(
        folder / f"{name}.pem", public
    )


def node_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A node's key and its public one, as ``NAME.key`` and ``NAME.pub``, in OpenSSH's form.

    Raises
    ------
    ValueError
        If there is one already.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(_PEM, serialization.PrivateFormat.OpenSSH, _PLAIN)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return _secret(folder / f"{name}.key", private), _open(folder / f"{name}.pub", public + b"\n")


def server_certificate(folder: Path, hosts: list[str]) -> tuple[Path, Path, Path]:
    """A server's certificate and key and who vouches for them: ``server.pem``, ``server.key``, ``ca.pem``.

    The authority's own key is thrown away: it vouches for this server and for no other.

    Parameters
    ----------
    folder
        Gets the files.
    hosts
        Names and addresses that nodes may call the server by.

    Raises
    ------
    ValueError
        If there are some already, or no host is named.
    """
    if not hosts:
        raise ValueError("expected a name or an address of the server, got none")
    of, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    issuer, subject = _named("Spindose federation"), _named(hosts[0])
    ca = _begun(issuer, issuer, of.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), True
    )
    own = (
        _begun(issuer, subject, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([_general(h) for h in dict.fromkeys([*hosts, "localhost"])]), False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(of.public_key()), False)
    )
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = ca.add_extension(usage, True).add_extension(
        x509.SubjectKeyIdentifier.from_public_key(of.public_key()), False
    )
    private = key.private_bytes(_PEM, _PKCS8, _PLAIN)
    return (
        _open(folder / "server.pem", own.sign(of, hashes.SHA384()).public_bytes(_PEM)),
        _secret(folder / "server.key", private),
        _open(folder / "ca.pem", ca.sign(of, hashes.SHA384()).public_bytes(_PEM)),
    )


def _begun(
    issuer: x509.Name, subject: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_DAYS))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _open(path: Path, content: bytes) -> Path:
    return _new(path, content, 0o644)


def _secret(path: Path, content: bytes) -> Path:
    return _new(path, content, 0o600)


def _new(path: Path, content: bytes, mode: int) -> Path:
    """A file that was not there, never readable by others for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise ValueError(f"expected no {path.name} yet, got one; it is kept, use another folder") from None
    return path
