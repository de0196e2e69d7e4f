"""Reaching a Dask scheduler, or saying soon that there is none.

torch is not imported: who gave a wrong address hears of it before anything is planned.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.errors import BadInput

if TYPE_CHECKING:
    from distributed import Client

CONNECT = 5.0  # seconds to reach a scheduler


@contextlib.contextmanager
def connect(scheduler: str) -> Iterator[Client]:
    """A client of the scheduler at an address, or whose file is given. Raises BadInput where there is none."""
    try:
        from distributed import Client
    except ImportError:
        raise BadInput("--scheduler needs Dask, which is not installed: pip install 'fedbench[cluster]'") from None
    address = _address(scheduler)
    try:
        # a client that reaches something else than a scheduler waits for it without end
        found = apart(asyncio.run, _kind(address)).result(CONNECT + 1)
        if found != "Scheduler":
            raise BadInput(f"at {scheduler} is a Dask {found.lower()}: give the address of the scheduler")
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except BadInput:
        raise
    except Exception as error:  # of many kinds, Dask's own among them
        silent = f"nothing answered within {CONNECT:.0f} seconds"
        reason = silent if isinstance(error, TimeoutError) else _said(error)
        raise BadInput(f"no Dask scheduler answers at {scheduler}: {reason}; `fedbench cluster` tells how") from None
    try:
        yield client
    finally:
        client.close(timeout=5)


def _address(scheduler: str) -> str:
    """The address that `--scheduler` means."""
    try:
        file = Path(scheduler).expanduser()
        address = str(json.loads(file.read_text())["address"]) if file.is_file() else scheduler
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadInput(f"--scheduler {scheduler} is not the file that a Dask scheduler wrote: {_said(error)}") from None
    if "://" not in address:
        raise BadInput(f"--scheduler {scheduler}: there is no such file, and an address is like tcp://HOST:8786")
    return address


async def _kind(address: str) -> str:
    """What answers at `address`, as Dask calls it: Scheduler, Worker, Nanny."""
    from distributed.core import rpc
    from distributed.security import Security

    async def ask() -> str:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as there:
            return str((await there.identity())["type"])

    return await asyncio.wait_for(ask(), CONNECT)


def count_workers(scheduler: str) -> int:
    """How many workers the scheduler has. Raises BadInput as `connect` does."""
    with connect(scheduler) as client:
        return len(client.nthreads())


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def apart(function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
    """Call `function` in a thread that nobody waits for, not even the end of the process."""
    future: Future[Any] = Future()

    def body() -> None:
        try:
            future.set_result(function(*arguments, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=body, daemon=True).start()
    return future
