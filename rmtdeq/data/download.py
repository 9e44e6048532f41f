"""Downloads that are either complete and verified or leave nothing behind."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rmtdeq._lib.check import number
from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError
from rmtdeq._lib.progress import progress_bar

if TYPE_CHECKING:
    from http.client import HTTPResponse

__all__ = ["fetch"]

_BLOCK = 1 << 16


def fetch(url: str, destination: str | Path, md5: str, *, timeout: float = 30.0) -> Path:
    """Download a file, verify it, and put it in its place in one step.

    The bytes go to a temporary file in the same folder, which takes the place of `destination` only once its
    checksum is right. Whatever goes wrong, an interrupt from the keyboard included, the temporary file is removed
    and a file already at `destination` stays as it was. A progress bar is shown if stderr is a terminal.

    Parameters
    ----------
    url : str
        An http or https address.
    destination : path
        The file to write; its folder is made if need be.
    md5 : str
        The MD5 sum that the file must have, 32 hexadecimal digits.
    timeout : float
        Seconds without an answer after which to give up.

    Returns
    -------
    Path
        `destination`.

    Raises
    ------
    DataNotFoundError
        The address cannot be reached, the connection broke off, the checksum is wrong, or the file cannot be
        written; the message says what to put where by hand.
    InvalidInputError
        `url`, `md5` or `timeout` makes no sense.
    """
    destination = Path(destination)
    if not url.lower().startswith(("http://", "https://")):
        raise InvalidInputError(f"url must begin with http:// or https://, not {url!r}.")
    if len(md5) != 32 or not set(md5.lower()) <= set("0123456789abcdef"):
        raise InvalidInputError(f"md5 must be 32 hexadecimal digits, not {md5!r}.")
    number(timeout, "timeout", low=0, open_low=True)
    # A name of its own, so that two processes that download the same file do not write into one another's.
    temporary = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.part")
    digest = hashlib.md5(usedforsecurity=False)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                for block in _blocks(url, destination, timeout):
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != md5.lower():
                raise _failure(url, destination, f"its MD5 sum is {digest.hexdigest()}, not {md5.lower()}")
            os.replace(temporary, destination)
        finally:
            temporary.unlink(missing_ok=True)
    except DataNotFoundError:
        raise
    except OSError as error:  # the network's errors come as DataNotFoundError, so this one is the disk's
        raise DataNotFoundError(
            f"{destination.name} cannot be written to {destination.parent} ({error}); make room or get leave to write "
            f"there, or download {url} by hand into a folder and name that folder in the environment variable "
            "RMTDEQ_DATA."
        ) from error
    return destination


def _blocks(url: str, destination: Path, timeout: float) -> Iterator[bytes]:
    """Yield the bytes at `url`, with a progress bar."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        # Some servers refuse requests that name urllib as the browser.
        response: HTTPResponse = urlopen(Request(url, headers={"User-Agent": "rmtdeq"}), timeout=timeout)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection, with the body of the server's answer
        raise _failure(url, destination, str(error)) from error
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    received = 0
    with (
        response,
        progress_bar(True, total=total, desc=destination.name, unit="B", unit_scale=True) as bar,
    ):
        while True:
            try:
                block = response.read(_BLOCK)
            except (OSError, HTTPException) as error:
                raise _failure(url, destination, f"the connection broke off: {error}") from error
            if not block:
                break
            received += len(block)
            bar.update(len(block))
            yield block
    # Reading in blocks, http.client does not complain of a connection that ends early.
    if total is not None and received != total:
        raise _failure(url, destination, f"the connection broke off after {received} of {total} bytes")


def _failure(url: str, destination: Path, reason: str) -> DataNotFoundError:
    return DataNotFoundError(f"{url} could not be downloaded ({reason}){remedy(destination)}")


def remedy(destination: Path) -> str:
    """Return the end of the message on a failed download: what to do about it."""
    return (
        f"; try again, or download it by hand and put {destination.name} into {destination.parent} or into the folder "
        "that the environment variable RMTDEQ_DATA names."
    )
