"""Going on with the personal models that a run kept beside its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from fedbench import plugins, storage
from fedbench.dataset import data_root as find_root
from fedbench.errors import BadInput
from fedbench.method import Method
from fedbench.models import Network
from fedbench.plugins.given import text_of
from fedbench.runs.arguments import check
from fedbench.storage import Result
from fedbench.storage.given import given_path
from fedbench.task import normalise


class ClientModel(nn.Module):
    """A personal model: `forward` maps images [B, c, h, w] to logits [B, classes].

    uint8 images are normalised as in training, floats are taken as normalised already. Parameters have the names that
    the model's tensors have, such as `conv1.weight`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, model: Mapping[str, Tensor], mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self._logits = network.logits
        for name, value in model.items():
            *layers, entry = name.split(".")
            inner: nn.Module = self
            for layer in layers:
                if layer not in inner._modules:
                    inner.add_module(layer, nn.Module())
                inner = inner.get_submodule(layer)
            inner.register_parameter(entry, nn.Parameter(value.clone()))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, c, h, w]."""
        if images.dtype == torch.uint8:
            images = normalise(images, self.mean, self.std)
        return self._logits(dict(self.named_parameters()), images)


@overload
def load_models(
    result: Result | str | Path,
    modules: Literal[False] = False,
    *,
    results: str | Path = "results",
    data_root: str | Path | None = None,
    method: str | type[Method] | None = None,
    dataset: str | type[Any] | None = None,
    networks: Sequence[str] = (),
    any_code: bool = False,
) -> dict[int, dict[str, Tensor]]: ...
@overload
def load_models(
    result: Result | str | Path,
    modules: Literal[True],
    *,
    results: str | Path = "results",
    data_root: str | Path | None = None,
    method: str | type[Method] | None = None,
    dataset: str | type[Any] | None = None,
    networks: Sequence[str] = (),
    any_code: bool = False,
) -> dict[int, ClientModel]: ...
def load_models(
    result: Result | str | Path,
    modules: bool = False,
    *,
    results: str | Path = "results",
    data_root: str | Path | None = None,
    method: str | type[Method] | None = None,
    dataset: str | type[Any] | None = None,
    networks: Sequence[str] = (),
    any_code: bool = False,
) -> dict[int, dict[str, Tensor]] | dict[int, ClientModel]:
    """The personal models that `fedbench run --keep-models` stored, by the client's number.

    `result` is a result, stored below the folder `results`, or its identity there, or the path of its file. A model is
    its tensors by name; with `modules` a `torch.nn.Module` that computes the network's logits, for which the data set
    is read from `data_root` (the shape of its images and how they are normalised). `method`, `dataset` and `networks`
    are the files (or classes) of plug-ins that are not found by name. Raises BadInput where no models were kept, where
    their file is missing, damaged or of another run, and, unless `any_code`, where the method has other code than is
    here now, and with `modules` the data set or a network.
    """
    check(modules=modules, method=method, networks=networks, any_code=any_code)
    if dataset is not None:
        check(dataset=dataset)
    folder = None if data_root is None else given_path(data_root, "data_root")
    path, read = _found(result, results)
    models, _ = storage.read_models(path, read)
    if not any_code:
        _check_code(path, read, method)
    if not modules:
        return models
    files = [plugins.find_network(text) for text in ([networks] if isinstance(networks, str) else networks)]
    return _as_modules(path, read, models, find_root(folder), dataset, files, any_code)


def load_embeddings(result: Result | str | Path, *, results: str | Path = "results") -> Tensor:
    """The clients' embeddings [N, k] that were kept with the models. Raises BadInput where there are none."""
    path, read = _found(result, results)
    embeddings = storage.read_models(path, read)[1]
    if embeddings is None:
        raise BadInput(f"{path} has no embeddings: the server of {read.spec.method} has none for its clients")
    return embeddings


def _found(result: Result | str | Path, results: str | Path) -> tuple[Path, Result]:
    root = given_path(results, "results")
    if isinstance(result, Result):
        return storage.result_path(root, result.spec), result
    if not isinstance(result, str | Path):
        raise BadInput(f"{result!r:.100} is no result: give one, its identity, or the path of its file")
    path = storage.find_result(str(given_path(result, "result")), root)
    return path, storage.read(path)


def _check_code(path: Path, result: Result, method: str | type[Method] | None) -> None:
    remedy = "name its file with method=..., or load them as they are with any_code=True"
    try:
        here = plugins.find_method(text_of("method", method or result.spec.method)).code
    except BadInput as error:
        raise BadInput(f"the models of {path} are of a method that is not here: {error}; {remedy}") from None
    if here != result.code:
        raise _other_code(path, result.spec.method)


def _other_code(path: Path, name: str) -> BadInput:
    return BadInput(
        f"the models of {path} were made by other code of {name} than is here now: make them again with `fedbench run "
        "--keep-models`, or load them as they are with any_code=True"
    )


def _as_modules(
    path: Path,
    result: Result,
    models: Mapping[int, Mapping[str, Tensor]],
    root: Path,
    dataset: str | type[Any] | None,
    files: Sequence[plugins.Plugin],
    any_code: bool,
) -> dict[int, ClientModel]:
    from fedbench.runs.prepare import load_data, make_network

    spec = result.spec
    try:
        source = plugins.find_dataset(text_of("dataset", dataset or spec.dataset))
        own = source.cls.network  # which may be a file beside the data set's
        files = [*files, *([plugins.find_network(own)] if own.endswith(".py") else [])]
        networks = plugins.parse_networks(spec.network, spec.clients, {file.name: file.where for file in files})
    except BadInput as error:
        remedy = "name files with dataset=... and networks=[...], or load the models as tensors"
        raise BadInput(f"the models of {path} are for what is not here: {error}; {remedy}") from None
    for plugin, code in [
        (source, result.dataset_code),
        *((each, result.codes.get(each.name)) for each in networks.distinct),
    ]:
        if not any_code and plugin.code and code not in (plugin.code, None):
            raise _other_code(path, plugin.name)
    data = load_data(source.where, root)
    built = [make_network(plugin, data) for plugin in networks.distinct]
    places = networks.places(spec.seed)
    made: dict[int, ClientModel] = {}
    for client, model in models.items():
        network = built[places[client]]
        shapes = {name: tuple(value.shape) for name, value in model.items()}
        if shapes != network.shapes:
            raise BadInput(
                f"the model of client {client} is not one of the network {network.name}: it has the tensors "
                f"{', '.join(shapes)}; load it as tensors instead"
            )
        dtype = next(iter(model.values())).dtype
        mean, std = (torch.tensor(each, dtype=dtype)[:, None, None] for each in (data.mean, data.std))
        made[client] = ClientModel(network, {name: model[name] for name in network.shapes}, mean, std)
    return made
