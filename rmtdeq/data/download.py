"""Downloads that are either complete and verified or leave nothing behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rmtdeq._lib.errors import DataNotFoundError
from rmtdeq._lib.progress import Stage

__all__ = ["fetch"]

_RETRIES = 2
_BLOCK = 1 << 16


def fetch(url: str, destination: str | Path, md5: str, *, timeout: float = 10.0) -> Path:
    """Download a file, verify it, and put it in its place in one step.

    The bytes go to a temporary file in the same folder, which takes the place of `destination` only once its
    checksum is right. Whatever goes wrong, an interrupt from the keyboard included, the temporary file is removed
    and a file already at `destination` stays as it was. What fails is tried twice more. How far it is is told on a
    terminal.

    Parameters
    ----------
    url : str
        An http or https address.
    destination : path
        The file to write; its folder is made if need be.
    md5 : str
        The MD5 sum that the file must have.
    timeout : float
        Seconds without an answer after which an attempt is given up.

    Returns
    -------
    Path
        `destination`.

    Raises
    ------
    DataNotFoundError
        The address cannot be reached, the connection broke off, the checksum is wrong, or the file cannot be
        written.
    """
    import pooch
    from requests import RequestException

    destination = Path(destination)
    # Compressed once more on the way, the bytes would not be those that the checksum is of.
    headers = {"User-Agent": "rmtdeq", "Accept-Encoding": "identity"}

    def download(url: str, file: Any, registry: Any) -> None:
        with (
            ExitStack() as answers,
            Stage(f"downloading {destination.name}", 1) as stage,
        ):
            # pooch leaves the connection open where the answer breaks off.
            hooks = {"response": lambda response, **_: answers.enter_context(response)}
            pooch.HTTPDownloader(stage, _BLOCK, timeout=timeout, headers=headers, hooks=hooks)(url, file, registry)

    registry = pooch.create(
        destination.parent,
        base_url="",
        registry={destination.name: f"md5:{md5}"},
        urls={destination.name: url},
        retry_if_failed=_RETRIES,
    )
    try:
        with _quiet(pooch.get_logger()):
            registry.fetch(destination.name, downloader=download)
        destination.chmod(0o644)
    except (RequestException, ValueError) as error:
        raise DataNotFoundError(f"{url} could not be downloaded ({error}).") from error
    except OSError as error:
        raise DataNotFoundError(
            f"{destination.name} cannot be written to {destination.parent} ({error}); make room or get leave to write "
            "there."
        ) from error
    return destination


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Have a logger say nothing of what goes well."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
