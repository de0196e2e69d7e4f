"""Models that a run keeps: they are those that were tested, and whatever is wrong with them is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_runs import a_job, done

from fedbench import storage
from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.runs.job import Job
from fedbench.runs.kept import load_embeddings, load_models
from fedbench.runs.prepare import load_data, make_partition
from fedbench.runs.state import look
from fedbench.storage import Result


def kept(results: Path, method: str = "pfedhn-pc", **changes: object) -> tuple[Job, Path, Result]:
    """A short run that kept its models."""
    settings = {f"{method}.local.steps": "2"}
    a = a_job(
        results, methods=[method], settings=settings, novel_clients=0, adapt_visits=None, keep_models=True, **changes
    )
    done(a)
    path = storage.result_path(results, a.spec)
    return a, path, storage.read(path)


def data_of(a: Job) -> Data:
    return load_data(a.dataset, a.data_root)


@pytest.mark.parametrize("method", ["pfedhn", "pfedhn-pc", "fedavg", "fedavg-ft", "local", "lg-fedavg"])
def test_they_are_the_models_that_were_tested(method: str, tmp_path: Path) -> None:
    """As modules, on the test rows of every client: the stored numbers of correct rows come out again."""
    a, path, result = kept(tmp_path, method)
    data = data_of(a)
    partition = make_partition(a.dataset, a.data_root, a.spec.partition, a.spec.clients, a.spec.seed)
    models = load_models(path, True)
    assert list(models) == list(range(5))
    correct = []
    for i, model in models.items():
        rows = partition.test[i]
        with torch.no_grad():
            correct.append(int((model(data.images[rows]).argmax(1) == data.labels[rows]).sum()))
    assert correct == result.best.test.correct


def test_modules_are_modules(tmp_path: Path) -> None:
    """They have the tensors' names, can be trained on, and take images that are normalised already."""
    a, path, result = kept(tmp_path)
    tensors, modules = load_models(path), load_models(result, True, results=tmp_path)
    module = modules[2]
    assert set(module.state_dict()) == set(tensors[2])
    assert all(torch.equal(module.state_dict()[name], value) for name, value in tensors[2].items())
    data = data_of(a)
    images = data.images[:7]
    floats = (images.float() / 255 - torch.tensor(data.mean)[:, None, None]) / torch.tensor(data.std)[:, None, None]
    torch.testing.assert_close(module(images), module(floats))
    torch.nn.functional.cross_entropy(module(images), data.labels[:7]).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert torch.equal(tensors[2]["fc1.bias"], load_models(path)[2]["fc1.bias"])


def test_embeddings_are_there_where_a_server_has_some(tmp_path: Path) -> None:
    _, path, _ = kept(tmp_path)
    assert load_embeddings(path).shape == (5, 2)  # int(1 + 5 / 4)
    _, other, _ = kept(tmp_path, "fedavg")
    with pytest.raises(BadInput, match="has no embeddings"):
        load_embeddings(other)


def test_keeping_models_changes_no_number_and_a_run_without_them_is_made_again(tmp_path: Path) -> None:
    _, _, with_models = kept(tmp_path / "with")
    a = a_job(tmp_path / "without", settings={"pfedhn-pc.local.steps": "2"}, novel_clients=0, adapt_visits=None)
    done(a)
    without = storage.read(storage.result_path(a.results, a.spec))
    assert with_models.digest == without.digest
    from dataclasses import replace

    assert look(replace(a, keep_models=True)).state == "outdated"
    assert look(a).state == "done"


def test_without_kept_models_it_says_how_to_get_some(tmp_path: Path) -> None:
    a = a_job(tmp_path, settings={}, novel_clients=0, adapt_visits=None)
    done(a)
    with pytest.raises(BadInput, match="--keep-models"):
        load_models(storage.result_path(a.results, a.spec))


def test_damaged_files_and_files_of_another_run_are_refused(tmp_path: Path) -> None:
    _, path, result = kept(tmp_path)
    _, other, _ = kept(tmp_path, seeds=[2])
    assert result.models is not None
    file = path.with_name(result.models.file)
    whole = file.read_bytes()
    for content in (whole[:-1], b"", whole[:200] + b"x" + whole[201:], other.with_suffix(".safetensors").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(BadInput, match="is damaged, or of another run"):
            load_models(path)
    file.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        load_models(path)


def test_models_of_other_code_are_refused_unless_asked_for(tmp_path: Path) -> None:
    _, path, _ = kept(tmp_path)
    stored = json.loads(path.read_text())
    stored["code"] = "0" * 16
    stored["digest"] = storage.digest(stored)
    path.write_text(json.dumps(stored))
    with pytest.raises(BadInput, match="made by other code of pfedhn-pc"):
        load_models(path)
    assert len(load_models(path, any_code=True)) == 5


def test_models_of_a_method_that_is_a_file_want_the_file(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from dataclasses import dataclass\n\nfrom fedbench.methods.fedavg import FedAvg\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Own(FedAvg):\n    title = 'Own'\n    paper = 'none'\n"
    )
    a = a_job(tmp_path / "r", methods=[str(own)], settings={}, novel_clients=0, adapt_visits=None, keep_models=True)
    done(a)
    path = storage.result_path(a.results, a.spec)
    with pytest.raises(BadInput, match="name its file with method="):
        load_models(path)
    assert len(load_models(path, method=str(own))) == 5
