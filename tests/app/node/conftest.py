"""Instances that nobody ever was."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from imaging.uids import seeded_uid

_PEM = serialization.Encoding.PEM


def write_instance(path: Path, study: int, number: int, **words: object) -> Path:
    """A small MR instance, the same for the same arguments."""
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = MRImageStorage, seeded_uid("instance", study, number)
    one.StudyInstanceUID, one.SeriesInstanceUID = seeded_uid("study", study), seeded_uid("series", study)
    one.PatientName, one.PatientID, one.Modality = "Doe^Jane", f"ID{study}", "MR"
    one.Rows = one.Columns = 16
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.PixelData = bytes(range(256)) * 2
    for word, value in words.items():
        setattr(one, word, value)
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def write_mr() -> Callable[..., Path]:
    """Writes a small MR instance: path, number of the study, number of the instance, other attributes."""
    return write_instance


def write_certificates(folder: Path) -> Path:
    """An authority (``ca.pem``), and ``node`` and ``scanner`` that it vouches for (``.pem``, ``.key``)."""
    folder.mkdir()
    authority = ec.generate_private_key(ec.SECP256R1())
    usage = {"node": ExtendedKeyUsageOID.SERVER_AUTH, "scanner": ExtendedKeyUsageOID.CLIENT_AUTH}
    for name in ("ca", *usage):
        key = authority if name == "ca" else ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        one = (
            x509.CertificateBuilder()
            .issuer_name(_named("hospital"))
            .subject_name(_named("hospital" if name == "ca" else name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
        )
        if name != "ca":
            one = one.add_extension(x509.ExtendedKeyUsage([usage[name]]), critical=False)
        (folder / f"{name}.pem").write_bytes(one.sign(authority, hashes.SHA256()).public_bytes(_PEM))
        words = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(_PEM, *words))
    return folder


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@pytest.fixture(scope="session")
def certificates() -> Callable[[Path], Path]:
    """Writes an authority, and certificates of a node and a scanner, into a new folder."""
    return write_certificates
