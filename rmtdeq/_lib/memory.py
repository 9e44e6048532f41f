"""How much memory there is to be had: of the machine, of the container, of the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

UNKNOWN = 1 << 62
"""Where nothing says how much memory there is."""


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that can still be had: the least that the machine and its limits leave.

    Parameters
    ----------
    root : Path
        Of the file system that describes them.
    """
    return max(0, min([_of_the_machine(root), *_of_groups(root), *_of_the_process(root)]))


def _of_the_machine(root: Path) -> int:
    found = _lines(root / "proc/meminfo").get("MemAvailable:")
    if found is not None:
        return found * 1024
    try:
        import psutil

        return int(psutil.virtual_memory().available)
    except ImportError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def _of_groups(root: Path) -> Iterator[int]:
    """What the control groups of the process leave, each of which is limited by those above it."""
    try:
        entries = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for entry in entries:
        _, controllers, path = (*entry.split(":", 2), "", "", "")[:3]
        if not controllers:
            place, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            place = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = place / path.lstrip("/")
        for folder in (inner, *inner.parents):
            yield _left(folder, *names)
            if folder == place:
                break


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> int:
    most, now = _number(folder / limit), _number(folder / used)
    if most is None or now is None:  # "max", or no such group
        return UNKNOWN
    # Pages of files that were read are given up where memory is wanted.
    return most - now + min(now, _lines(folder / "memory.stat").get(reclaimable, 0))


def _of_the_process(root: Path) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _lines(root / "proc/self/status").get("VmSize:")
    if most != resource.RLIM_INFINITY and used is not None:
        yield most - used * 1024


def _lines(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    found = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            name, number, *_ = (*line.split(), "", "")
            if number.isdigit():
                found[name] = int(number)
    except (OSError, ValueError):
        pass
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
