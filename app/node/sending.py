"""Results to where the rules say: every instance acknowledged, or the whole of it tried again later."""

import socket
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, build_context

from .settings import Destination

_WAIT = 60.0  # seconds for a peer that says nothing
_REACH = 5.0  # seconds for one to take a connection


class UnsentError(RuntimeError):
    """A destination that did not take what was sent."""


def send(files: Sequence[Path], to: Destination, title: str) -> None:
    """Sends instances by C-STORE; all of them again if it is called again, which is harmless to who has them.

    Parameters
    ----------
    files
        Of DICOM.
    to
        Who gets them.
    title
        Of the application entity that sends.

    Raises
    ------
    UnsentError
        If the destination is not reached, or does not take one of them.
    """
    headers = [dcmread(path, specific_tags=[], stop_before_pixels=True).file_meta for path in files]
    kinds = {(str(one.MediaStorageSOPClassUID), str(one.TransferSyntaxUID)) for one in headers}
    entity = AE(title)
    entity.requested_contexts = [build_context(*kind) for kind in sorted(kinds)]
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _WAIT
    association = entity.associate(to.address, to.port, ae_title=to.title) if _listens(to) else None
    if association is None or not association.is_established:
        raise UnsentError(f"expected {to.name} to answer, got no association")
    try:
        for path in files:
            try:
                status = association.send_c_store(path)
            except (ValueError, RuntimeError) as error:
                raise UnsentError(f"expected {to.name} to take an instance, got none that is open") from error
            if not _is_taken(status.get("Status")):
                raise UnsentError(
                    f"expected {to.name} to take an instance, got {_told(status.get('Status'))}"
                )
    finally:
        association.release()


def reached(to: Destination, title: str) -> bool:
    """Whether a destination answers a C-ECHO."""
    entity = AE(title)
    entity.add_requested_context("1.2.840.10008.1.1")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10.0
    association = entity.associate(to.address, to.port, ae_title=to.title) if _listens(to) else None
    if association is None or not association.is_established:
        return False
    try:
        return association.send_c_echo().get("Status") == 0
    finally:
        association.release()


def _listens(to: Destination) -> bool:
    """Whether somebody takes a connection; pynetdicom leaves a socket open where nobody does."""
    try:
        with socket.create_connection((to.address, to.port), timeout=_REACH):
            return True
    except OSError:
        return False


def _is_taken(status: int | None) -> bool:
    """Whether it is success, or a warning of what is kept all the same (PS3.4, table B.2-1)."""
    return status is not None and (status == 0 or status >> 12 == 0xB)


def _told(status: int | None) -> str:
    return "no answer" if status is None else f"status 0x{status:04X}"
