"""The conformance kit: every built-in method passes, and each check catches a method that is wrong in its way.

The wrong methods are modelled on mistakes found in published code.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedbench import plugins, tree
from fedbench.check import Lab, parametrize, run_check, run_checks, sentences
from fedbench.errors import BadInput
from fedbench.local import descend, train
from fedbench.method import Cohort, Method
from fedbench.methods.fedavg import FedAvg
from fedbench.methods.fedavg_ft import FedAvgFT
from fedbench.methods.fedper import FedPer
from fedbench.methods.local import Local
from fedbench.methods.pfedhn import PFedHN
from fedbench.methods.pfedhn_pc import PFedHNPC
from fedbench.methods.pfedme import PFedMe
from fedbench.plugins import Plugin
from fedbench.plugins.new import new_method
from fedbench.tree import Tree

QUICK = ["fedper", "lg-fedavg", "local", "pfedhn-pc"]
OTHERS = [name for name in plugins.names("method") if name not in QUICK]


@parametrize(QUICK)
def test_built_in_methods_keep_the_contract(check: Callable[[], None]) -> None:
    check()


@pytest.mark.slow
@parametrize(OTHERS)
def test_other_built_in_methods_keep_the_contract(check: Callable[[], None]) -> None:
    check()


# ---------- methods that are wrong, each in one way

WRONG: list[tuple[str, str, type[Method]]] = []  # broken sentence, part of what is seen, method


def wrong(sentence: str, seen: str) -> Callable[[type[Method]], type[Method]]:
    """Make the decorated class a method that breaks `sentence`."""

    def register(cls: type[Method]) -> type[Method]:
        if "__dataclass_params__" not in vars(cls):  # a class may break several sentences
            cls = dataclass(frozen=True, kw_only=True)(cls)
        WRONG.append((sentence, seen, cls))
        return cls

    return register


MEMORY: dict[str, Any] = {}  # what the forgetful ones keep where no checkpoint finds it


@wrong("title and paper are given", "paper is ''")
class NoPaper(FedAvg):
    paper = ""


@wrong("hyperparameters have defaults and a meaning", "mu has no description")
class NoMeaning(FedAvg):
    mu: float = 1.0


@wrong("hyperparameters have defaults and a meaning", "mu has no default")
class NoDefault(FedAvg):
    mu: Annotated[float, Field(description="weight of the proximal term")]


@wrong("the spec round-trips", "rates")
class ListOfRates(FedAvg):
    rates: Annotated[tuple[float, ...], Field(description="one for each layer")] = (0.1, 0.01)


@wrong("messages are stacked tensors", "for a cohort of 3")
class OneForAll(FedAvg):
    """Sends the model as it is, without a client dimension."""

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return server


@wrong("messages are stacked tensors", "what client_train keeps has 'visits': int")
class Counter(FedAvg):
    """Keeps a plain number, which no stacking and no device knows."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(message, {}, batches)[0], {"visits": 1}  # type: ignore[dict-item]


@wrong("messages are stacked tensors", "a tensor requires a gradient")
class StillInTheGraph(FedAvg):
    """Forgets to detach what it sends."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return {name: value.clone().requires_grad_() for name, value in message.items()}, state


@wrong("message size is constant", "bytes from server_send")
class EveryOtherRound(FedAvg):
    """Sends the head only every other round and does not say so."""

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        sent = server if cohort.round % 2 == 0 else {**server, "extra": torch.zeros(1000)}
        return tree.expand(sent, len(cohort.ids))

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(tree.drop(message, ["extra"]), state, batches)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return tree.drop(message, ["extra"])


@wrong("inputs are never modified", "an argument of client_train")
class InPlace(FedAvg):
    """Trains the very tensors that it was sent, which all clients of the cohort share."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        trained = train(self.task, self.local, message, batches)[0]
        return {name: message[name].copy_(trained[name]) for name in message}, state


@wrong("inputs are never modified", "what server_init had returned")
class AliasOfTheGlobalModel(FedAvg):
    """Averages into the model that it returned before, so that a model handed out earlier changes afterwards."""

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return {name: server[name].copy_(value) for name, value in tree.average(upload, cohort.weight).items()}


@wrong("same seed same bits", "two fresh instances differ")
class OwnRandomness(FedAvg):
    """Adds noise from the global generator."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        return {name: value + 1e-6 * torch.randn_like(value) for name, value in upload.items()}, state


@wrong("same seed same bits", "when used again")
@wrong("client order does not matter", "message or upload of client")
class CountsOnTheObject(FedAvg):
    """Lowers its rate with every call, counted on the method."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        object.__setattr__(self, "calls", getattr(self, "calls", 0) + 1)
        upload, state = super().client_train(message, state, batches)
        return tree.add_scaled(message, tree.sub(upload, message), 1 / self.calls), state  # type: ignore[attr-defined]


@wrong("client order does not matter", "server or client states")
class LastOneWins(FedAvg):
    """Takes the last client's model instead of the mean."""

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return {name: value[-1] for name, value in upload.items()}


@wrong("loop equals vmap", "RuntimeError")
class DataDependent(FedAvg):
    """Branches on a loss, which `vmap` cannot."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        if float(self.task.loss(message, batches[0])) > 0:
            return super().client_train(message, state, batches)
        return message, state


@wrong("loop equals vmap", "differences up to")
class MeanOfPadding(FedAvg):
    """Scales its step with the length of a batch, padding included."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        return tree.add_scaled(message, tree.sub(upload, message), batches.shape[1] / 8), state


@wrong("padded and short batches change nothing", "client_train differs")
class CountsPadding(FedAvg):
    """Averages its loss over padded rows as well."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        def loss(model: Tree, rows: Tensor) -> Tensor:
            images, labels = self.task.batch(rows)
            return F.cross_entropy(self.task.logits(model, images), labels)

        return descend(self.local, torch.func.grad(loss), message, batches)[0], state


@wrong("resume equals straight", "interruptions")
class MomentumOnTheObject(FedAvg):
    """Keeps the server's momentum on the method, where no checkpoint finds it."""

    def server_init(self, rng: torch.Generator) -> Tree:
        object.__setattr__(self, "momentum", None)
        return super().server_init(rng)

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        step = tree.sub(tree.average(upload, cohort.weight), server)
        before = getattr(self, "momentum", None)
        object.__setattr__(self, "momentum", step if before is None else tree.add_scaled(step, before, 0.9))
        return tree.add_scaled(server, self.momentum, 1.0)  # type: ignore[attr-defined]


@wrong("client states are isolated", "when others train before it")
class LeakingMomentum(PFedHNPC):
    """Begins a client's momentum with what the client before it left."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        for name in self.task.head:
            state = {**state, f"momentum.{name}": MEMORY.get(name, state[f"momentum.{name}"])}
        upload, state = super().client_train(message, state, batches)
        MEMORY.update({name: state[f"momentum.{name}"] for name in self.task.head})
        return upload, state

    def server_init(self, rng: torch.Generator) -> dict[str, Any]:
        MEMORY.clear()
        return super().server_init(rng)


@wrong("client states are isolated", "an unvisited client changed")
class OneHeadInMemory(FedPer):
    """All clients keep views of the same head and train it in place."""

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        return MEMORY.setdefault("head", super().client_init(welcome, rng))

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, new = super().client_train(message, state, batches)
        return upload, {name: state[name].copy_(value) for name, value in new.items()}

    def server_init(self, rng: torch.Generator) -> Tree:
        MEMORY.clear()
        return super().server_init(rng)


@wrong("what a client keeps matters", "the personal model does not depend on the kept fc2.bias, fc2.weight")
class HeadSharedByAccident(FedPer):
    """Forgets to take the head out of the message, which then covers the client's own."""

    def server_init(self, rng: torch.Generator) -> Tree:
        return self.task.init(rng)


@wrong("what a client keeps matters", "neither depends on control")
class UnusedVariate(FedAvg):
    """Keeps a control variate and never uses it."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, _ = super().client_train(message, {}, batches)
        return upload, {"control": upload["fc1.bias"] - message["fc1.bias"]}

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return message


@wrong("a client with one sample, with one batch, and a cohort of one work", "not finite")
class DividesBySpread(FedAvg):
    """Divides by the standard deviation of a batch's labels."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        spread = self.task.batch(batches[0])[1].to(self.task.dtype).std() + 1
        return tree.add_scaled(message, tree.sub(upload, message), 1 / spread), state


@wrong("the server changes after a round", "the same state")
class Frozen(PFedMe):
    """beta = 0: the server's weight of the new average."""

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return tree.lerp(server, tree.average(upload, cohort.weight), 0.0)


@wrong("the personal model is complete", "lacks fc1.bias, fc1.weight")
class HeadOnly(FedPer):
    """Returns what the client keeps, and forgets the body."""

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return state


@wrong("the personal model is the one scored", "a model of zeros scores as that of client 0")
class ScoresTheGlobalModel(FedAvgFT):
    """Fine-tunes a model and scores the one that it remembers."""

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        MEMORY["global"] = server
        return super().server_send(server, cohort)

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        return self.task.predict(MEMORY["global"], images)


@wrong("the personal model is the one scored", "a fresh instance scores client 0 otherwise")
class MixesInTheGlobalModel(FedAvgFT):
    """Adds the scores of a model that it keeps on the object."""

    def server_init(self, rng: torch.Generator) -> Tree:
        object.__setattr__(self, "start", super().server_init(rng))
        return self.start  # type: ignore[attr-defined]

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        scores = super().predict(model, images)
        return scores + self.task.predict(self.start, images) if hasattr(self, "start") else scores


@wrong("training changes the scores", "client 0 scores as the server's initial model")
class KeepsTheOldModel(Local):
    """Trains a copy and keeps the original."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        super().client_train(message, state, batches)
        return {}, state


@wrong("what is fitted for one client is its own", "two clients have the same model")
class PersonalIsGlobal(PFedMe):
    """Solves for the personal model and returns the global one."""

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        self.solve(message, batches)
        return message


@wrong("the method learns the synthetic task better than chance", "accuracy 0.")
class Ascent(PFedHN):
    """Sends new minus old weights, as the paper's pseudo-code has it, and descends on that."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        return {name: -value for name, value in upload.items()}, state


@wrong("validation and test rows are never read", "with other held-out rows")
class AdaptsOnTest(FedAvg):
    """Remembers the images that it scores and shifts the model by their mean."""

    def server_init(self, rng: torch.Generator) -> Tree:
        MEMORY.clear()
        return super().server_init(rng)

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        MEMORY["mean"] = images.mean()
        return super().predict(model, images)

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        model = super().server_receive(server, cohort, upload)
        return tree.add_scaled(model, model, 1e-3 * MEMORY.get("mean", 0.0))


@wrong("each image is scored for itself", "in other company")
class BatchStatistics(FedAvg):
    """Normalises scores over the images that it is given together."""

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        scores = super().predict(model, images)
        return scores - scores.mean(0)


@wrong("unseen clients work", "IndexError")
class NoPlaceForNewClients(PFedHN):
    """Has one embedding for each training client and none to give."""

    def server_admit(self, server: dict[str, Any], count: int, rng: torch.Generator) -> None:  # type: ignore[override]
        return None


@wrong("a server that admits unseen clients forgets nothing", "visits to unseen clients")
class TrainsOn(PFedHN):
    """Admits unseen clients and goes on training everything with them."""

    def server_admit(self, server: dict[str, Any], count: int, rng: torch.Generator) -> dict[str, Any]:
        fresh = torch.randn(count, server["embedding"].shape[1], generator=rng).to(server["embedding"])
        momentum = {**server["momentum"], "embedding": torch.cat([server["momentum"]["embedding"], fresh * 0])}
        return {**server, "embedding": torch.cat([server["embedding"], fresh]), "momentum": momentum}


@wrong("declared deviations name a sentence of the contract and give a reason", "'messages are secret'")
class UnknownDeclaration(FedAvg):
    deviations: ClassVar[dict[str, str]] = {"messages are secret": "they are encrypted"}


@wrong("declared deviations name a sentence of the contract and give a reason", "'loop equals vmap'")
class NoReason(FedAvg):
    deviations: ClassVar[dict[str, str]] = {"loop equals vmap": " "}


@wrong("the server changes after a round", "take the declaration out")
class UntrueDeclaration(FedAvg):
    deviations: ClassVar[dict[str, str]] = {"the server changes after a round": "it does not"}


def lab(cls: type[Method]) -> Lab:
    return Lab(Plugin("wrong", cls, "wrong", "0"))


@pytest.mark.parametrize(("sentence", "seen", "cls"), WRONG, ids=[cls.__name__ for _, _, cls in WRONG])
def test_a_wrong_method_is_caught_by_the_check_meant_for_it(sentence: str, seen: str, cls: type[Method]) -> None:
    result = run_check(lab(cls), sentence)
    assert result.status == "fails"
    assert seen in result.seen


def test_every_check_bites() -> None:
    assert {sentence for sentence, _, _ in WRONG} == set(sentences())


def test_a_declared_deviation_is_reported_with_its_reason() -> None:
    class Declared(LastOneWins):
        deviations: ClassVar[dict[str, str]] = {"client order does not matter": "the last one wins"}

    result = run_check(lab(Declared), "client order does not matter")
    assert result.status == "declared"
    assert "the last one wins" in result.seen


def test_a_failing_case_tells_what_was_expected_and_seen(tmp_path: Path) -> None:
    file = tmp_path / "broken_one.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from fedbench.methods.fedavg import FedAvg\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Broken(FedAvg):\n"
        "    title = ''\n"
    )
    mark = parametrize([str(file)])
    cases = mark.args[1]
    assert [case.sentence for case in cases] == sentences()
    with pytest.raises(AssertionError, match=r"expected: two texts that are not empty\nseen: title is ''"):
        cases[0]()
    cases[1]()


def test_the_kit_leaves_the_number_of_threads_alone() -> None:
    before = torch.get_num_threads()
    run_check(lab(FedAvg), "the server changes after a round")
    assert torch.get_num_threads() == before


# ---------- fedbench new method


def test_a_new_method_keeps_the_contract_as_it_stands(tmp_path: Path) -> None:
    """And is formatted and linted as the project is."""
    method, test = new_method("My_Method", tmp_path)
    assert (method.name, test.name) == ("my_method.py", "test_my_method.py")
    results = run_checks(plugins.find_method(str(method)))
    assert [result.sentence for result in results if result.status != "holds"] == []
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--config", str(Path(__file__).parents[2] / "pyproject.toml"), str(method), str(test)]
    assert subprocess.run([*ruff, "check", "--ignore", "D103", *options], check=False).returncode == 0
    assert subprocess.run([*ruff, "format", "--check", *options], check=False).returncode == 0


def test_the_test_file_of_a_new_method_runs(tmp_path: Path) -> None:
    _, test = new_method("tree", tmp_path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-k",
        "title or hyperparameters",
        "-p",
        "no:cacheprovider",
        str(test),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    new_method("mine", tmp_path)
    for left in ("mine.py", "test_mine.py"):
        (tmp_path / "mine.py").unlink(missing_ok=True)
        (tmp_path / "test_mine.py").unlink(missing_ok=True)
        (tmp_path / left).write_text("work of weeks")
        with pytest.raises(BadInput, match="is there already"):
            new_method("mine", tmp_path)
        assert [file.read_text() for file in tmp_path.iterdir()] == ["work of weeks"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.py", "1st", "a--b", "-a", "a-", "a b c!", "é", "x" * 61])
def test_names_that_are_no_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no name for a method"):
        new_method(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_built_in_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'fedavg' already"):
        new_method("FedAvg", tmp_path)
