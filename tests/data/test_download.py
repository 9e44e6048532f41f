"""Downloads from a server on this machine that behaves well, or badly in every way that servers do."""

from __future__ import annotations

import hashlib
import io
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rmtdeq._lib.errors import DataNotFoundError
from rmtdeq._lib.progress import Stage
from rmtdeq.data.download import fetch

CONTENT = bytes(range(256)) * 1024
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT, each address in its way."""

    def do_GET(self) -> None:
        if self.path == "/absent":
            self.send_error(404)
            return
        if self.path == "/late" and not self.server.asked_before.is_set():  # type: ignore[attr-defined]
            self.server.asked_before.set()  # type: ignore[attr-defined]
            self.send_error(503)
            return
        if self.path == "/silent":
            self.server.released.wait(10)  # type: ignore[attr-defined]
            return
        if self.path == "/nonsense":
            self.wfile.write(b"not http at all\r\n\r\n")
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        self.send_response(200)
        if self.path != "/no-length":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path == "/breaks-off":
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
        elif self.path == "/stalls":
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            self.wfile.flush()
            self.server.released.wait(10)  # type: ignore[attr-defined]
        elif self.path == "/changed":
            self.wfile.write(CONTENT[:-1] + b"?")
        else:
            self.wfile.write(CONTENT)

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.released = threading.Event()  # type: ignore[attr-defined]
    server.asked_before = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.released.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was to be waited before each further attempt; nobody waits."""
    found: list[float] = []
    monkeypatch.setattr("pooch.core.time.sleep", found.append)
    return found


@pytest.mark.parametrize("path", ["/file", "/no-length", "/moved", "/late"])
def test_file_arrives_whole(tmp_path: Path, address: str, path: str) -> None:
    destination = tmp_path / "new" / "folder" / "file.gz"
    assert fetch(address + path, str(destination), MD5.upper()) == destination
    assert destination.read_bytes() == CONTENT
    assert list(destination.parent.iterdir()) == [destination]
    assert destination.stat().st_mode & 0o044 == 0o044, "others may read a shared folder"


def test_replaces_an_older_file(tmp_path: Path, address: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    fetch(f"{address}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/absent", "404"),
        ("/breaks-off", "Connection broken.*131072"),
        ("/stalls", "[Tt]imed out"),
        ("/silent", "[Tt]imed out"),
        ("/nonsense", "not http at all"),
        ("/changed", f"MD5 hash .* expected md5:{MD5} but got [0-9a-f]{{32}}"),
    ],
)
def test_failure_leaves_nothing_behind(tmp_path: Path, address: str, waits: list[float], path: str, words: str) -> None:
    with pytest.raises(DataNotFoundError, match=words) as caught:
        fetch(address + path, tmp_path / "train.gz", MD5, timeout=0.3)
    assert list(tmp_path.iterdir()) == []
    assert f"{address}{path} could not be downloaded" in str(caught.value)
    assert waits == [1, 2], "it was tried twice more"


@pytest.mark.parametrize("path", ["/absent", "/breaks-off", "/changed"])
def test_failure_keeps_the_older_file(tmp_path: Path, address: str, path: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(DataNotFoundError):
        fetch(address + path, tmp_path / "file", MD5)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_offline(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        with pytest.raises(DataNotFoundError, match="refused"):
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/file", tmp_path / "file", MD5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interruption_leaves_nothing_behind(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, exception: type[BaseException]
) -> None:
    seen: list[list[str]] = []

    class Interrupted(Stage):
        """A stage during which the user presses the keys, once the second block has come."""

        def update(self, count: float = 1) -> None:
            seen.append([p.name for p in tmp_path.iterdir()])
            if len(seen) == 2:
                raise exception

    monkeypatch.setattr("rmtdeq.data.download.Stage", Interrupted)
    with pytest.raises(exception):
        fetch(f"{address}/file", tmp_path / "file", MD5)
    assert [len(names) for names in seen] == [1, 1], "the temporary file lies in the folder of the file"
    assert seen[0] != ["file"]
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file(tmp_path: Path, address: str) -> None:
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(DataNotFoundError, match=r"file cannot be written to .*folder.*make room"):
        fetch(f"{address}/file", tmp_path / "folder" / "file", MD5)


def test_failed_replacement_leaves_nothing_behind(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(13, "Permission denied", target)

    monkeypatch.setattr("pooch.core.shutil.move", refuse)
    with pytest.raises(DataNotFoundError, match=r"cannot be written.*Permission denied"):
        fetch(f"{address}/file", tmp_path / "file", MD5)
    assert list(tmp_path.iterdir()) == []


def test_only_http(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="could not be downloaded"):
        fetch("file:///etc/hostname", tmp_path / "file", MD5)
    assert list(tmp_path.iterdir()) == []


def test_no_bar_without_a_terminal(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(f"{address}/file", tmp_path / "file", MD5)
    assert capsys.readouterr() == ("", "")


def test_bar_on_a_terminal(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fetch(f"{address}/file", tmp_path / "train.gz", MD5)
    assert "train.gz" in terminal.getvalue()
    assert "Downloading" not in terminal.getvalue(), "pooch's own words are kept back"
