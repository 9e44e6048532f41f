"""How much memory there is, told from the files of systems that are made up."""

import subprocess
import sys

import pytest

from rmtdeq._memory import UNKNOWN, available_memory

GIB = 1 << 30
MEMINFO = f"MemTotal: {64 << 20} kB\nMemAvailable: {32 << 20} kB\n"
V2 = "29 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
V1 = "32 31 0:29 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def system(root, files):
    """Write the files of a system; return the bytes it has."""
    for name, content in ({"proc/meminfo": MEMINFO} | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))
    return available_memory(root)


def v2(path, limit, used, high="max", inactive=0):
    """The files of a group of version 2."""
    return {
        f"sys/fs/cgroup{path}/memory.max": f"{limit}\n",
        f"sys/fs/cgroup{path}/memory.high": f"{high}\n",
        f"sys/fs/cgroup{path}/memory.current": f"{used}\n",
        f"sys/fs/cgroup{path}/memory.stat": f"anon 5\ninactive_file {inactive}\nactive_file 7\n",
    }


def v1(path, limit, used, inactive=0):
    """The files of a group of version 1."""
    return {
        f"sys/fs/cgroup/memory{path}/memory.limit_in_bytes": f"{limit}\n",
        f"sys/fs/cgroup/memory{path}/memory.usage_in_bytes": f"{used}\n",
        f"sys/fs/cgroup/memory{path}/memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive}\n",
    }


OWN = {"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": V2}
OLD = {"proc/self/cgroup": "5:cpu:/x\n4:memory,blkio:/a/b\n0::/\n", "proc/self/mountinfo": V1.format(top="/")}
NO_LIMIT = 0x7FFFFFFFFFFFF000

SYSTEMS = {
    "no group": ({}, 32 * GIB),
    "no limit": (OWN | v2("/a/b", "max", 3 * GIB), 32 * GIB),
    "own limit": (OWN | v2("/a/b", 4 * GIB, 3 * GIB, inactive=GIB // 2), 1.5 * GIB),
    "high before max": (OWN | v2("/a/b", 8 * GIB, 3 * GIB, high=4 * GIB), GIB),
    "a parent's": (OWN | v2("/a/b", "max", GIB) | v2("/a", 4 * GIB, 2 * GIB), 2 * GIB),
    "tightest of several": (OWN | v2("/a/b", 4 * GIB, GIB) | v2("/a", 9 * GIB, 7 * GIB), 2 * GIB),
    "root of a name space": ({"proc/self/cgroup": "0::/\n"} | v2("", 4 * GIB, GIB), 3 * GIB),
    "group that is not mounted": (
        OWN | {"proc/self/cgroup": "0::/docker/12ab\n"} | v2("", 4 * GIB, 2 * GIB),
        2 * GIB,
    ),
    "larger than the machine": (OWN | v2("/a/b", 512 * GIB, GIB), 32 * GIB),
    "used up": (OWN | v2("/a/b", GIB, 2 * GIB), 0),
    "damaged": (OWN | {"sys/fs/cgroup/a/b/memory.max": "much", "sys/fs/cgroup/a/b/memory.current": "\x00"}, 32 * GIB),
    "old": (OLD | v1("/a/b", 4 * GIB, 3 * GIB, inactive=GIB), 2 * GIB),
    "old, a parent's": (OLD | v1("/a/b", NO_LIMIT, GIB) | v1("/a", 2 * GIB, GIB), GIB),
    "old, no limit": (OLD | v1("/a/b", NO_LIMIT, GIB), 32 * GIB),
    "old, part mounted": (
        OLD | {"proc/self/mountinfo": V1.format(top="/a")} | v1("/b", 2 * GIB, GIB),
        GIB,
    ),
}


@pytest.mark.parametrize(("files", "expected"), SYSTEMS.values(), ids=SYSTEMS.keys())
def test_the_tightest_limit_counts(tmp_path, files, expected):
    assert system(tmp_path, files) == expected


def test_the_address_space_of_the_process_counts(tmp_path):
    resource = pytest.importorskip("resource")
    code = (
        "import resource, pathlib; from rmtdeq._memory import available_memory\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({3 * GIB}, resource.getrlimit(resource.RLIMIT_AS)[1]))\n"
        f"print(available_memory(pathlib.Path({str(tmp_path)!r})))"
    )
    pages = GIB // resource.getpagesize()
    system(tmp_path, {"proc/self/statm": f"{pages} 1 1\n"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 2 * GIB


def test_without_the_kernels_files_others_say(tmp_path, monkeypatch):
    assert 0 < available_memory(tmp_path) < UNKNOWN
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}[name], raising=False)
    assert available_memory(tmp_path) == 4096000
    monkeypatch.delattr("os.sysconf")
    assert available_memory(tmp_path) == UNKNOWN


def test_this_system_says_something():
    assert 0 < available_memory() < UNKNOWN
