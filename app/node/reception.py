"""The node's ears: DICOM verification and storage for whom the hospital named, and for nobody else.

An instance is acknowledged once it and its place in the queue are on disk. What is answered to a sender
tells the kind of a fault and nothing of a patient; nor does the log.
"""

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from .queue import Queue
from .settings import NodeSettings, Tls
from .vault import UnfitError, Vault

LOG = logging.getLogger("spindose.node")
OK, FULL, FAULT, UNFIT = 0x0000, 0xA700, 0xC001, 0xC000  # PS3.4, table B.2-1
_VERIFICATION = "1.2.840.10008.1.1"
_WAIT = 30.0  # seconds for a peer that says nothing


@contextmanager
def listening(node: NodeSettings, vault: Vault, queue: Queue) -> Iterator[int]:
    """Listens until this is left, when associations that are open are ended first; gives the port.

    Parameters
    ----------
    node
        Who may speak to it.
    vault, queue
        Get what comes.

    Raises
    ------
    OSError
        If another process has the port.
    """
    entity = AE(node.title)
    entity.maximum_associations = node.associations
    entity.require_called_aet = True
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _WAIT
    entity.add_supported_context(_VERIFICATION)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    handlers = [
        (evt.EVT_REQUESTED, lambda event: _admit(event, node)),
        (evt.EVT_C_ECHO, lambda _: OK),
        (evt.EVT_C_STORE, lambda event: _store(event, node, vault, queue)),
    ]
    server = entity.start_server(
        (node.host, node.port),
        block=False,
        evt_handlers=handlers,  # type: ignore[arg-type] # its own words for a handler are wider
        ssl_context=context_of(node.tls) if node.tls else None,
    )
    if server is None:  # it gives none where it blocks
        raise OSError("expected a server that listens, got none")
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def context_of(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 or later, for callers alone for whom the authority vouches (PS3.15, B.9 and B.10)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    context.load_verify_locations(tls.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _admit(event: evt.Event, node: NodeSettings) -> None:
    """Rejects an association of whom the file does not name."""
    requestor = event.assoc.requestor
    title = requestor.primitive.calling_ae_title.strip() if requestor.primitive else ""
    address = ip_address(requestor.address or "0.0.0.0")  # noqa: S104
    for peer in node.peers:
        if peer.title == title and any(address in ip_network(n) for n in peer.addresses):
            return
    LOG.warning("association refused", extra={"address": str(address)})
    # Rejected for good, by the service user: calling title not recognised (PS3.8, 9.3.4).
    event.assoc.acse.send_reject(0x01, 0x01, 0x03)
    event.assoc.kill()


def _store(event: evt.Event, node: NodeSettings, vault: Vault, queue: Queue) -> int:
    """Status of one C-STORE."""
    if vault.free() < node.least_free_gb * 1e9:
        LOG.error("instance refused", extra={"why": "too little space on the disk"})
        return FULL
    try:
        with vault.arriving() as path:
            with path.open("wb") as file:
                file.write(event.encoded_dataset())
            one, is_new = vault.keep(path)
        queue.came(one)
    except UnfitError:
        LOG.warning("instance refused", extra={"why": "unfit"})
        return UNFIT
    except OSError as error:
        LOG.error("instance refused", extra={"why": f"errno {error.errno}"})  # noqa: TRY400 # a path is in it
        return FULL
    LOG.info("instance kept", extra={"study": one.study, "new": is_new})
    return OK
