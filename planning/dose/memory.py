"""Whether there is memory for what is about to be computed."""

from pathlib import Path

import torch

# What the rest of the work, and the rest of the machine, should find.
_SPARE = 0.1


def expect_room(n_bytes: int, device: torch.device, what: str) -> None:
    """Nothing, if a device has room for so much.

    Raises
    ------
    MemoryError
        If it has not, before anything is allocated; the sentence says what to do.
    """
    free = free_bytes(device)
    if free is not None and n_bytes > (1 - _SPARE) * free:
        raise MemoryError(
            f"expected {what} to fit into {free / 2**30:.1f} GiB of free memory, got one of "
            f"{n_bytes / 2**30:.1f} GiB; use fewer points, wider bixels or fewer beams, or compute the "
            "beams one at a time"
        )


def free_bytes(device: torch.device) -> int | None:
    """Memory that a device can still give (bytes), or None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [n for n in (_available(), _left_in_group()) if n is not None]
    return min(known, default=None)


def _available() -> int | None:
    """What Linux says that a new program could use."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    lines = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def _left_in_group() -> int | None:
    """What a container's limit leaves (cgroup version 2)."""
    group = Path("/sys/fs/cgroup")
    limit, used = group / "memory.max", group / "memory.current"
    if not (limit.exists() and used.exists()):
        return None
    most = limit.read_text(encoding="ascii").strip()
    return None if most == "max" else int(most) - int(used.read_text(encoding="ascii"))
