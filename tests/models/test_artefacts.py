"""Files of models: what is refused, Hugging Face's own reader, and packs."""

import hashlib
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from huggingface_hub import try_to_load_from_cache
from safetensors.torch import save_file

from models.artefacts import expect_harmless, files_of, home_of, kept, packed, revision_of, unpacked


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "given"
    folder.mkdir()
    save_file({"w": torch.arange(4.0)}, folder / "net.safetensors")
    (folder / "net.json").write_text('{"name": "net"}')
    (folder / "losses.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"PATIENT" * 10)
    return sorted(folder.iterdir())


def test_hugging_faces_own_functions_find_what_is_kept(files: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "root"
    revision, hashes = kept(files, root, "clinic", "oar")
    assert revision == revision_of(hashes)
    assert len(revision) == 40
    for name in hashes:
        found = try_to_load_from_cache("clinic/oar", name, cache_dir=root)
        assert isinstance(found, str)
        assert Path(found).read_bytes() == (tmp_path / "given" / name).read_bytes()
    assert kept(files, root, "clinic", "oar") == (revision, hashes)
    assert set(files_of(home_of(root, "clinic", "oar"), revision, hashes)) == set(hashes)


def test_altered_bytes_do_not_run(files: list[Path], tmp_path: Path) -> None:
    revision, hashes = kept(files, tmp_path / "root", "clinic", "oar")
    home = home_of(tmp_path / "root", "clinic", "oar")
    weights = home / "snapshots" / revision / "net.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"expected net\.safetensors as it was imported"):
        files_of(home, revision, hashes)


def test_pickles_links_and_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    def refused(name: str, data: bytes, said: str) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ValueError, match=said):
            expect_harmless([path])

    harm = pickle.dumps({"w": [1.0]})
    refused("net.pt", harm, "never as pickles")
    refused("net.pkl", harm, "never as pickles")
    refused("net.safetensors", harm, "something else in it")
    refused("card.json", b"{", "something else in it")
    refused("notes.md", b"a\x00b", "something else in it")
    refused("curve.png", b"not a picture", "something else in it")
    refused("card-2.json", b'"' + b"x" * 2**20 + b'"', "at most 1 MiB")
    refused("a b.json", b"{}", "plain names")
    (tmp_path / "link.json").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="a link"):
        expect_harmless([tmp_path / "link.json"])
    for originator in ("..", "../x", "a--b", ""):
        with pytest.raises(ValueError, match="expected an originator"):
            kept([], tmp_path, originator, "oar")


def test_a_pack_holds_no_picture_and_comes_back_the_same(files: list[Path], tmp_path: Path) -> None:
    out, again = tmp_path / "oar.spdm", tmp_path / "again.spdm"
    packed({p.name: p for p in files}, out)
    packed({p.name: p for p in files}, again)
    assert out.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == ["manifest.json", "net.json", "net.safetensors"]
        assert not any(b"PATIENT" in archive.read(name) for name in archive.namelist())
    folder = tmp_path / "back"
    folder.mkdir()
    for path in unpacked(out, folder):
        assert path.read_bytes() == (tmp_path / "given" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"../evil.json": b"{}"}, "expected the files that the manifest"),
        ({"net.pkl": b"x"}, "never as pickles"),
        ({}, "1 to 64 files"),
        ({"a.json": b"{}", "more": None}, "expected the files that the manifest"),
        ({"a.json": b"{}", "wrong": b"{ }"}, "altered"),
    ],
)
def test_packs_that_somebody_changed_are_refused(entries: dict, said: str, tmp_path: Path) -> None:
    real = {name: data for name, data in entries.items() if data is not None and name != "wrong"}
    told = {name: hashlib.sha256(entries.get("wrong", data)).hexdigest() for name, data in real.items()}
    pack = tmp_path / "a.spdm"
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr("manifest.json", json.dumps({"files": told}))
        for name, data in real.items():
            archive.writestr(name, data)
        if "more" in entries:
            archive.writestr("more.json", b"{}")
    folder = tmp_path / "into"
    folder.mkdir()
    with pytest.raises(ValueError, match=said):
        unpacked(pack, folder)
    assert not (tmp_path / "evil.json").exists()


def test_other_files_are_no_packs(tmp_path: Path) -> None:
    path = tmp_path / "a.spdm"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a packed model"):
        unpacked(path, tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", "{}")
    with pytest.raises(ValueError, match="expected a packed model"):
        unpacked(path, tmp_path)
