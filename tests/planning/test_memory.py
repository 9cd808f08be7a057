import pytest
import torch

from planning.dose.memory import expect_room, free_bytes

CPU = torch.device("cpu")


def test_what_fits_passes_and_what_does_not_is_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr("planning.dose.memory.free_bytes", lambda _device: 2**30)
    expect_room(2**29, CPU, "a matrix")
    with pytest.raises(MemoryError, match=r"a matrix to fit .*1.0 GiB.* 2.0 GiB; use fewer"):
        expect_room(2**31, CPU, "a matrix")


def test_free_memory_is_less_than_there_is():
    free = free_bytes(CPU)
    assert free is None or 0 < free < 2**50


def test_where_the_system_does_not_tell_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("planning.dose.memory.free_bytes", lambda _device: None)
    expect_room(2**60, CPU, "a matrix")
