"""Personal models kept beside a result: one safetensors file, read without executing anything.

Its tensors are `client.ID.PARAMETER` for every client, and `embeddings` [N, k] where the server has some. Letters: N
clients, k values of an embedding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.errors import BadInput
from fedbench.storage.disk import read_bytes, write_bytes
from fedbench.storage.schema import Models, Result
from fedbench.storage.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 2**36  # bytes of a file of models: one that is regular ends, and this only keeps the limit out of the way


def models_path(root: Path, spec: Spec) -> Path:
    """Where the models of the run `spec` belong: beside its result."""
    return root / spec.dataset / spec.method / f"{spec.identity}.safetensors"


def write_models(
    root: Path, spec: Spec, models: Mapping[int, Mapping[str, Tensor]], embeddings: Tensor | None
) -> Models:
    """Store the personal models by client number, and what the result says of the file."""
    from safetensors.torch import save

    tensors = {f"client.{i}.{name}": value.contiguous() for i, model in models.items() for name, value in model.items()}
    if embeddings is not None:
        tensors["embeddings"] = embeddings.contiguous()
    # tensors that share memory, as where clients share a model, are refused: every client gets its copy
    content = save({name: value.clone() for name, value in tensors.items()}, {"spec": spec.model_dump_json()})
    path = models_path(root, spec)
    write_bytes(path, content)
    return Models(file=path.name, sha256=hashlib.sha256(content).hexdigest())


def read_models(path: Path, result: Result) -> tuple[dict[int, dict[str, Tensor]], Tensor | None]:
    """The models by client number and the embeddings of a `result` stored at `path`.

    Raises BadInput where none were kept, and for a file that is missing, damaged or of another run.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if result.models is None:
        raise BadInput(f"{path} has no kept models: make it again with `fedbench run --keep-models`")
    file = path.with_name(result.models.file)
    again = "make the run again with `fedbench run --keep-models`"
    try:
        content = read_bytes(file, LARGEST)
    except OSError as error:
        place = "name the results folder that they are in, or "
        raise BadInput(f"the models of {path} cannot be read: {file}: {error.strerror}; {place}{again}") from None
    if hashlib.sha256(content).hexdigest() != result.models.sha256:
        wrong = f"is damaged, or of another run: its SHA-256 is not the one in {path.name}"
        raise BadInput(f"{file} {wrong}; remove it, and {again}")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise BadInput(f"{file} is no safetensors file: {error}; remove it, and {again}") from None
    embeddings = tensors.pop("embeddings", None)
    models: dict[int, dict[str, Tensor]] = {i: {} for i in range(result.spec.clients - result.spec.novel_clients)}
    for name, value in sorted(tensors.items()):  # they come in any order
        found = re.fullmatch(r"client\.([0-9]{1,9})\.(.+)", name)
        if found is None or int(found[1]) not in models:
            raise BadInput(f"{file} holds {name[:100]!r}, which is no model of a client of this run; {again}")
        models[int(found[1])][found[2]] = value
    if empty := [i for i, model in models.items() if not model]:
        raise BadInput(f"{file} has no model of client {empty[0]}; remove it, and {again}")
    return models, embeddings
