"""How much memory can still be had: of the machine, of the container, of the process.

All is read below a root, so that a folder can stand in for the files of the system.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

UNKNOWN = 1 << 62
"""More than any machine has: no guard, where nothing says how much there is."""


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that can still be had, as the tightest of all that limit them says."""
    return max(0, min([_of_machine(root), *_of_groups(root), *_of_process(root)]))


def _of_machine(root: Path) -> int:
    found = _fields(root / "proc/meminfo").get("MemAvailable:")
    if found is not None:
        return found * 1024
    try:
        return int(importlib.import_module("psutil").virtual_memory().available)
    except (ImportError, OSError, RuntimeError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def _of_groups(root: Path) -> Iterator[int]:
    """Bytes left to the process's control groups, versions 1 and 2, and to every group that these are within."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        unified = number == "0" and not controllers
        if not unified and "memory" not in controllers.split(","):
            continue
        for top, place in _mounts(root, unified):
            # Of a group that is not within what is mounted, as in a container without a name space of its own, the
            # mounted part is the group itself.
            inside = path if top == "/" else path.removeprefix(top) if f"{path}/".startswith(f"{top}/") else ""
            parts = [part for part in inside.split("/") if part not in ("", "..")]
            for length in range(len(parts) + 1):
                folder = root.joinpath(place.lstrip("/"), *parts[:length])
                yield from (_of_group if unified else _of_old_group)(folder)


def _mounts(root: Path, unified: bool) -> list[tuple[str, str]]:
    """Return which part of the hierarchy of groups is mounted, and where."""
    found = []
    for line in _lines(root / "proc/self/mountinfo"):
        before, dash, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if not dash or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" if unified else kind[0] == "cgroup" and "memory" in kind[2].split(","):
            found.append((fields[3], fields[4]))
    return found or [("/", "/sys/fs/cgroup" if unified else "/sys/fs/cgroup/memory")]


def _of_group(folder: Path) -> Iterator[int]:
    limits = [_number(folder / name) for name in ("memory.max", "memory.high")]
    used, reclaimable = _number(folder / "memory.current"), _fields(folder / "memory.stat").get("inactive_file", 0)
    if used is not None:
        yield from (limit - max(0, used - reclaimable) for limit in limits if limit is not None)


def _of_old_group(folder: Path) -> Iterator[int]:
    limit, used = (_number(folder / f"memory.{name}_in_bytes") for name in ("limit", "usage"))
    statistics = _fields(folder / "memory.stat")
    reclaimable = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
    if limit is not None and used is not None:
        yield limit - max(0, used - reclaimable)


def _of_process(root: Path) -> Iterator[int]:
    """Bytes of address space that the process may still take, where it has a limit."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        pages = next(iter(_lines(root / "proc/self/statm")), "0").split()[0]
        yield limit - int(pages) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """Return the number that a file consists of; None if it is not there, or says that there is no limit."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _fields(path: Path) -> dict[str, int]:
    """Return the numbers of a file with a name and a number a line."""
    split = (line.split() for line in _lines(path))
    return {words[0]: int(words[1]) for words in split if len(words) > 1 and words[1].isdecimal()}
