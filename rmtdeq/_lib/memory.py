"""How much memory there is to be had: of the machine, of the container, of the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that can still be had: the least that the machine and its limits leave.

    Parameters
    ----------
    root : Path
        Of the file system that describes the control groups.
    """
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_of_groups(root), *_of_the_process()]))


def _of_the_process() -> Iterator[int]:
    """What the limit of the address space leaves, on systems that tell of it."""
    import psutil

    if hasattr(psutil, "RLIMIT_AS"):
        process = psutil.Process()
        most, _ = process.rlimit(psutil.RLIMIT_AS)
        if most != psutil.RLIM_INFINITY:
            yield most - process.memory_info().vms


def _of_groups(root: Path) -> Iterator[int]:
    """What the control groups of the process leave, each of which is limited by those above it."""
    for entry in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = entry.split(":", 2)
        if not controllers:
            place, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            place = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = place / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(place):
                yield from _left(folder, *names)


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> Iterator[int]:
    most, now = _text(folder / limit), _text(folder / used)
    if most.isdigit() and now.isdigit():  # else "max", or no such group
        counts = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
        # Pages of files that were read are given up where memory is wanted.
        yield int(most) - int(now) + min(int(now), int(counts.get(reclaimable, 0)))


def _text(path: Path) -> str:
    """Read a file of the system's; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
