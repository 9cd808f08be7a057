"""A federation of processes over loopback: TLS, keys, and traffic in which nobody finds a patient."""

import getpass
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from app.federation.audit import lines_of
from app.federation.node_file import read_node
from app.federation.study import Study
from app.federation.trial import free_port, simulate
from app.predict_dose import load_predictor

MODEL = {"shape": [32, 32, 32], "net": {"features": [4, 4, 4, 4, 4, 4], "stages": 1}}
STUDY = Study("small", "dose", MODEL, rounds=2, steps=1, warmup=0)
_CHUNK = 65536


class Tap:
    """Ends the nodes' TLS with the server's own certificate, keeps what they say, and passes it on by TLS."""

    def __init__(self) -> None:
        self.said, self.seen = bytearray(), bytearray()  # by nodes, in the clear and on the wire
        self._sockets: list[socket.socket] = []

    def reach(self, address: str, certificates: Path) -> str:
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inside.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        outside = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        listening = socket.create_server(("127.0.0.1", free_port()))
        self._sockets.append(listening)
        threading.Thread(target=self._listen, args=(listening, address, inside, outside), daemon=True).start()
        return f"127.0.0.1:{listening.getsockname()[1]}"

    def _listen(self, listening: socket.socket, address: str, inside, outside) -> None:
        host, _, port = address.rpartition(":")
        while True:
            try:
                plain, _ = listening.accept()
                node = inside.wrap_socket(plain, server_side=True)
                server = outside.wrap_socket(
                    socket.create_connection((host, int(port))), server_hostname=host
                )
            except OSError:
                if listening.fileno() < 0:
                    return
                continue
            self._sockets += [node, server]
            for source, sink, kept in ((node, server, self.said), (server, node, None)):
                threading.Thread(target=self._pass, args=(source, sink, kept), daemon=True).start()

    def _pass(self, source: ssl.SSLSocket, sink: ssl.SSLSocket, kept: bytearray | None) -> None:
        try:
            while content := source.recv(_CHUNK):
                if kept is not None:
                    kept += content
                sink.sendall(content)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@contextmanager
def tapped() -> Iterator[Tap]:
    tap = Tap()
    try:
        yield tap
    finally:
        tap.close()


def pixels_of(ready: Path) -> list[bytes]:
    """Pieces of planes and doses that are no constant, as float16 and float32."""
    out = []
    for path in ready.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name, kind in (("planes", torch.float16), ("dose", torch.float32)):
                values = file.get_tensor(name).to(kind).flatten().numpy()
                rows = values[: len(values) // 8 * 8].reshape(-1, 8)
                told = rows[[len(np.unique(row)) > 2 for row in rows]]
                out += [row.tobytes() for row in told[:: max(len(told) // 200, 1)]]
    return out


@pytest.mark.slow
def test_sites_train_over_tls_and_nothing_of_a_patient_is_in_what_they_say(
    tmp_path: Path, write_patient, monkeypatch: pytest.MonkeyPatch
):
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w').close()\napp = None\n"
    monkeypatch.setattr("app.federation.deployment._NOTHING", code)
    sites = {"north": (tmp_path / "Doe^Jane",), "south": (tmp_path / "2.16.840.1.7",)}
    for n, (folder,) in enumerate(sites.values()):
        for k in range(2):
            write_patient(folder / f"pt_{k + 1}", 4.0 * k + 2.0 * n)
    out = tmp_path / "trial"
    with tapped() as tap:
        report = simulate(STUDY, sites, out, lambda _, __: None, timeout=300.0, reach=tap.reach)
        said = bytes(tap.said)
    assert not ran.exists()  # neither the server nor a node runs what is handed in
    assert report["sites"] == ["north", "south"]
    assert [len(r["sites"]) for r in report["rounds"]] == [2, 2]
    assert report["rounds"][-1]["errors"]["patients"] == 2
    weights = out / "server" / STUDY.digest[:24] / "model" / "dose.safetensors"
    assert load_predictor([weights]).site.name == "openkbp"
    size = report["rounds"][0]["received"]
    assert 2 * size < len(said) < 2 * size + 400_000  # the weights of two rounds, and little else
    private = ["Doe^Jane", "2.16.840.1.7", "pt_1", "pt_2", "LeftParotid", "PTV70", str(tmp_path), "dose.csv"]
    assert [word for word in private if word.encode() in said] == []
    assert f"/home/{getpass.getuser()}".encode() not in said
    for site in sites:
        pixels = pixels_of(out / site / "state" / "ready")
        assert len(pixels) > 100
        assert not any(piece in said for piece in pixels)
        log = lines_of(read_node(out / site / "node.toml").log)
        assert [(x.way, x.kind) for x in log if x.verdict == "sent"] == [
            ("out", "train"),
            ("out", "evaluate"),
        ] * 2
        assert not any(x.verdict.startswith("refused") for x in log)
        assert {x.verdict for x in log if x.kind == "app"} == {"not run"}


def test_a_certificate_of_another_authority_is_no_server_of_ours(tmp_path: Path):
    from app.federation.keys import server_certificate

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    server_certificate(ours, ["127.0.0.1"])
    server_certificate(theirs, ["127.0.0.1"])

    def shaken(certificates: Path, trusted: Path, name: str) -> None:
        """Both ends of a handshake in memory."""
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inside.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        outside = ssl.create_default_context(cafile=str(trusted / "ca.pem"))
        a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
        ends = [inside.wrap_bio(a, b, server_side=True), outside.wrap_bio(c, d, server_hostname=name)]
        for _ in range(4):
            for end in ends:
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                a.write(d.read())
                c.write(b.read())

    shaken(ours, ours, "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(theirs, ours, "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(ours, ours, "127.0.0.2")


def test_private_keys_are_their_owners_alone_and_are_never_replaced(tmp_path: Path):
    from app.federation.keys import lead_keys, node_keys

    for make in (lead_keys, node_keys):
        private, _ = make(tmp_path / make.__name__, "north")
        assert private.stat().st_mode & 0o077 == 0
        with pytest.raises(ValueError, match="it is kept"):
            make(tmp_path / make.__name__, "north")
