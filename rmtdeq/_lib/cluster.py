"""The Dask cluster that is in use, and what goes wrong with it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from rmtdeq._lib import check
from rmtdeq._lib.errors import ClusterError
from rmtdeq._lib.optional import require

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds until a scheduler has to answer, or a worker to come."""

_SHARE = 0.6
"""Of the workers' memory so much may be kept there; beyond it Dask writes to their disks."""


def client() -> Any:
    """Return the client that is in use, or one of a new cluster of threads in this process.

    Raises
    ------
    ClusterError
        The client in use has no workers, and none comes.
    """
    distributed = require("distributed")
    try:
        found = distributed.default_client()
        _wait_for_workers(found)
        return found
    except ValueError:
        cores = os.cpu_count() or 1
        logger.info("No Dask client is in use: starting a local cluster of %d threads.", cores)
        return distributed.Client(
            processes=False,
            n_workers=1,
            threads_per_worker=cores,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Use the cluster of a scheduler.

    Raises
    ------
    ClusterError
        There is none at this address, or it has no workers.
    """
    distributed = require("distributed")
    try:
        reach = distributed.Client(address, timeout=_PATIENCE)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {address!r}: {error}. Start one with `dask scheduler`, and workers with "
            "`dask worker ADDRESS`."
        ) from error
    with reach:
        _wait_for_workers(reach)
        yield


def _wait_for_workers(reach: Any) -> None:
    # Dask's own wait_for_workers overwrites what a cluster of this process knows of its workers; where one has just
    # left and the news is still under way, the cluster can then no longer be closed. So this asks and changes nothing.
    if workers_of(reach):
        return
    logger.warning("The cluster has no workers yet; waiting %g s for one.", _PATIENCE)
    deadline = time.monotonic() + _PATIENCE
    while not workers_of(reach):
        if time.monotonic() > deadline:
            address = reach.scheduler.address
            raise ClusterError(
                f"The scheduler at {address} has no workers; start some with `dask worker {address}`, or give an "
                "adaptive cluster one to begin with, cluster.adapt(minimum=1)."
            )
        time.sleep(0.1)


def workers_of(reach: Any) -> dict[str, Any]:
    """Return the workers and what the scheduler knows of them."""
    return dict(reach.scheduler_info(n_workers=-1)["workers"])


def memory_of(reach: Any) -> float:
    """Return the bytes that the workers may keep."""
    limits = [each["memory_limit"] or 0 for each in workers_of(reach).values()]
    return _SHARE * sum(limits) if all(limits) else check.memory_allowed(None)[0]


def lost() -> tuple[type[BaseException], ...]:
    """Return the exceptions by which Dask says that workers or data are gone."""
    distributed = require("distributed")
    return (distributed.KilledWorker, distributed.comm.CommClosedError, CancelledError, TimeoutError)


def _closed() -> type[BaseException]:
    """Return the exception that a closed client raises."""
    found: type[BaseException] = require("distributed").client.ClosedClientError
    return found


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Turn what Dask says of lost workers and lost data into an exception of the package."""
    try:
        yield
    except _closed() as error:
        raise ClusterError(
            "The Dask client is closed, and with it is gone what its workers held; make a client, and call again from "
            "the samples on."
        ) from error
    except lost() as error:
        raise ClusterError(
            f"The cluster lost work that it could not do again ({type(error).__name__}: {error}): scheduler or workers "
            "are gone, whose logs say why; workers mostly for want of memory: take more, or more memory for each. Call "
            "again; with a checkpoint, steps that were done are not lost."
        ) from error
