"""Personal models kept beside a result: one safetensors file, read without executing anything.

Its tensors are `client.ID.PARAMETER` for every client, and `embeddings` [N, k] where the server has some. Letters: N
clients, k values of an embedding.
"""

from __future__ import annotations

import hashlib
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
    try:
        content = read_bytes(file, LARGEST)
    except OSError as error:
        raise BadInput(f"the models of {path} cannot be read: {file}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != result.models.sha256:
        raise BadInput(f"{file} is damaged, or of another run: its SHA-256 is not the one in {path.name}")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise BadInput(f"{file} is no safetensors file: {error}") from None
    embeddings = tensors.pop("embeddings", None)
    models: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        _, client, parameter = name.split(".", 2)
        models.setdefault(int(client), {})[parameter] = value
    return dict(sorted(models.items())), embeddings
