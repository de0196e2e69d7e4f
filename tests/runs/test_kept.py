"""Models that a run keeps: they are those that were tested, and whatever is wrong with them is one sentence."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from small_runs import a_job, cut, done, full_disk, linux, work

from fedbench import plugins, storage
from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.runs.housekeeping import leftovers
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


def test_a_run_that_was_stopped_keeps_the_same_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that had begun without keeping them begins anew, and says so: its chosen round is gone."""
    _, path, straight = kept(tmp_path / "straight")
    settings = {"settings": {"pfedhn-pc.local.steps": "2"}, "novel_clients": 0, "adapt_visits": None}
    a = a_job(tmp_path / "stopped", keep_models=True, **settings)
    cut(a, 7, monkeypatch)
    done(a)
    stopped = storage.result_path(a.results, a.spec)
    assert storage.read(stopped).models == straight.models
    b = a_job(tmp_path / "late", **settings)
    cut(b, 7, monkeypatch)
    outcome = work(replace(b, keep_models=True))
    assert "it has no models of the chosen round, which are to be kept; the run starts afresh" in outcome.warnings[0]
    assert storage.read(storage.result_path(b.results, b.spec)).models == straight.models
    for i, model in load_models(path).items():
        assert all(torch.equal(value, load_models(stopped)[i][name]) for name, value in model.items())


def test_models_of_a_round_before_are_not_taken_for_those_of_the_chosen_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a run kept them, was gone on with by one that does not, and then by one that does."""
    fast = {"fedavg.local.steps": "2", "fedavg.local.lr": "0.5"}  # so fast that accuracy goes up and down
    options = {"methods": ["fedavg"], "settings": fast, "novel_clients": 0, "adapt_visits": None, "visits": 40}
    straight = a_job(tmp_path / "straight", keep_models=True, **options)
    done(straight)
    path = storage.result_path(straight.results, straight.spec)
    result = storage.read(path)
    assert 15 < result.best.visits <= 35  # while they are not kept
    a = a_job(tmp_path / "on and off", keep_models=True, **options)
    cut(a, 3, monkeypatch)
    cut(replace(a, keep_models=False), 7, monkeypatch)
    outcome = work(a)
    assert "it has no models of the chosen round" in outcome.warnings[0]
    other = storage.result_path(a.results, a.spec)
    assert storage.read(other).models == result.models
    for i, model in load_models(other).items():
        assert all(torch.equal(value, load_models(path)[i][name]) for name, value in model.items())


def test_models_that_no_result_names_any_more_may_be_cleaned_away(tmp_path: Path) -> None:
    _, path, _ = kept(tmp_path)
    _, other, _ = kept(tmp_path, seeds=[2])
    assert not leftovers(tmp_path)
    edited = json.loads(path.read_text()) | {"models": None}
    path.write_text(json.dumps(edited))
    assert [each.path for each in leftovers(tmp_path)] == [path.with_suffix(".safetensors")]
    other.write_text("damaged")  # it may name them
    assert [each.path for each in leftovers(tmp_path)] == [path.with_suffix(".safetensors")]
    other.unlink()
    assert [each.path.stem for each in leftovers(tmp_path)] == sorted([path.stem, other.stem])


@linux
def test_a_disk_that_is_full_is_one_sentence_and_leaves_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = a_job(tmp_path, settings={}, novel_clients=0, adapt_visits=None, keep_models=True)
    with monkeypatch.context() as patch:
        full_disk(patch, ".safetensors")
        outcome = work(a)
    assert outcome.ending == "failed"
    assert outcome.message.startswith("the models cannot be written to ")
    assert outcome.message.endswith("run the same command again, which goes on from the last checkpoint")
    assert not list(storage.files(tmp_path))
    done(a)


def test_tensors_come_in_one_order(tmp_path: Path) -> None:
    """Optimisers and flat vectors go by it: by name, and in a module from the first layer to the last."""
    _, path, _ = kept(tmp_path)
    models, modules = load_models(path), load_models(path, True)
    assert {tuple(model) for model in models.values()} == {("fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight")}
    names = {tuple(name for name, _ in module.named_parameters()) for module in modules.values()}
    assert names == {("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")}


def test_a_result_is_named_by_its_identity_or_path_and_nothing_else(tmp_path: Path) -> None:
    _, path, _ = kept(tmp_path)
    assert list(load_models(path.stem[:8], results=tmp_path)) == list(load_models(str(path))) == [0, 1, 2, 3, 4]
    for wrong in (None, 3, "", "no-such-result", tmp_path, path.with_suffix(".safetensors")):
        with pytest.raises(BadInput):
            load_models(wrong, results=tmp_path)  # type: ignore[arg-type]


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
        with pytest.raises(BadInput, match=r"is damaged, or of another run.*; remove it, and make the run again"):
            load_models(path)
    file.unlink()
    with pytest.raises(BadInput, match=r"cannot be read.*; name the results folder .* or make the run again"):
        load_models(path)


@pytest.mark.parametrize("names", [[], ["fc1.bias"], ["client.x.fc1.bias"], ["client.7.fc1.bias"], ["client.0.b"]])
def test_a_file_of_other_tensors_is_refused_though_the_result_names_its_hash(names: list[str], tmp_path: Path) -> None:
    """As a stranger might make it: the digest of a result does not cover the models."""
    _, path, _ = kept(tmp_path)
    content = save({name: torch.zeros(1) for name in names})
    path.with_suffix(".safetensors").write_bytes(content)
    stored = json.loads(path.read_text())
    stored["models"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(stored))
    with pytest.raises(BadInput, match=r"which is no model of a client of this run|has no model of client"):
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


NESTED = """
from torch.nn import functional as F

from fedbench.models import Network


def network(image, classes):
    size = image[0] * image[1] * image[2]
    shapes = {"a.fc.weight": (4, size), "a.fc.bias": (4,), "b.weight": (classes, 4), "b.bias": (classes,)}

    def logits(model, images):
        hidden = F.relu(F.linear(images.flatten(1), model["a.fc.weight"], model["a.fc.bias"]))
        return F.linear(hidden, model["b.weight"], model["b.bias"])

    return Network("nested", shapes, logits)
"""


def test_modules_of_a_network_that_is_a_file_want_the_file_as_it_was(tmp_path: Path) -> None:
    """Otherwise they would compute something else, without a word."""
    net = tmp_path / "nested.py"
    net.write_text(NESTED)
    _, path, _ = kept(tmp_path / "r", network=f"{net}*3,mlp-digits*2")
    assert len(load_models(path)) == 5
    with pytest.raises(BadInput, match=r"no network called 'nested'.*; name files with dataset=\.\.\. and networks="):
        load_models(path, True)
    modules = load_models(path, True, networks=[str(net)])
    assert set(modules[0].state_dict()) == {"a.fc.weight", "a.fc.bias", "b.weight", "b.bias"}
    assert modules[0](torch.zeros(2, 1, 8, 8)).shape == modules[4](torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    net.write_text(NESTED.replace("relu", "softplus"))
    plugins.find.cache_clear()
    with pytest.raises(BadInput, match="made by other code of nested"):
        load_models(path, True, networks=[str(net)])
    assert len(load_models(path, True, networks=[str(net)], any_code=True)) == 5
