"""What clients keep, of which there may be more than fits into memory: the rest waits in a file.

The engine keeps the states of clients in a dict; this mapping behaves like one. States that were written last stay in
memory, up to a limit; others go to a file without a name in the results folder, which the system removes when the
process ends, however it ends. A state comes back as it went: names in their order, types, strides, bits.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import IO

import torch

from fedbench import tree
from fedbench.errors import BadInput
from fedbench.tree import Tree

IN_MEMORY = 128_000_000  # bytes


class Spill(MutableMapping[int, Tree]):
    """States by client, in the order in which clients joined, as in a dict; at most `limit` bytes are in memory."""

    def __init__(self, states: MutableMapping[int, Tree], folder: Path, limit: int = IN_MEMORY) -> None:
        self.folder, self.limit = folder, limit
        self.order: dict[int, None] = {}
        self.here: dict[int, Tree] = {}  # in memory, the one written first in front
        self.size = 0  # bytes of these
        self.there: dict[int, tuple[int, int]] = {}  # in the file: place and length
        self.free: dict[int, list[int]] = {}  # places that are free again, by length
        self.end = 0
        self.device: torch.device | None = None
        self._file: IO[bytes] | None = None
        for client in list(states):
            self[client] = states[client]

    @property
    def file(self) -> IO[bytes]:
        """The file that holds the other states."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115  open as long as the run goes on
        return self._file

    def __getitem__(self, client: int) -> Tree:
        return self.here[client] if client in self.here else unpacked(self.packed(client), self.device)

    def packed(self, client: int) -> bytes:
        """The bytes of a state that waits in the file."""
        place, length = self.there[client]
        with self._room():
            self.file.seek(place)
            return self.file.read(length)

    def __setitem__(self, client: int, state: Tree) -> None:
        if client in self:
            self._forget(client)
        self.order[client] = None
        self.here[client] = state
        self.size += tree.nbytes(state)
        self.device = next((value.device for value in state.values()), self.device)
        while self.size > self.limit:
            self._write(next(iter(self.here)))

    def __delitem__(self, client: int) -> None:
        self._forget(client)
        del self.order[client]

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)

    def __contains__(self, client: object) -> bool:
        return client in self.order

    def _forget(self, client: int) -> None:
        if client in self.here:
            self.size -= tree.nbytes(self.here.pop(client))
        else:
            place, length = self.there.pop(client)
            self.free.setdefault(length, []).append(place)

    def _write(self, client: int) -> None:
        content = packed(self.here[client])
        places = self.free.get(len(content))
        place = places.pop() if places else self.end
        with self._room():
            self.file.seek(place)
            self.file.write(content)
        self.end = max(self.end, place + len(content))
        self.size -= tree.nbytes(self.here.pop(client))
        self.there[client] = place, len(content)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """While inside, a disk that is full ends the run, and is no reason to doubt its checkpoint."""
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"what clients keep does not fit into memory, and the rest cannot be kept in {self.folder}: "
                f"{error.strerror}; make room and run the same command again, which goes on from the last checkpoint"
            ) from error


def packed(state: Tree) -> bytes:
    """A state as bytes. A view of a larger tensor is written without the rest of that."""
    whole = {n: t.clone() if t.untyped_storage().nbytes() > t.nbytes else t for n, t in state.items()}
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    return buffer.getvalue()


def unpacked(content: bytes, device: torch.device | None) -> Tree:
    """The state that `packed` made these bytes of; nothing in them is executed."""
    state: Tree = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return state
