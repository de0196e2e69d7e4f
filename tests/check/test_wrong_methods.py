"""Methods that are wrong, each in one way, and the sentence of the contract that catches it.

They are modelled on mistakes found in published code, and on what a plug-in could do to look better than it is.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedbench import tree
from fedbench.check import Subject, run_check, sentences
from fedbench.local import descend, train
from fedbench.method import Cohort, Draw, Method
from fedbench.methods.fedavg import FedAvg
from fedbench.methods.fedavg_ft import FedAvgFT
from fedbench.methods.fedper import FedPer
from fedbench.methods.local import Local
from fedbench.methods.per_fedavg import PerFedAvg
from fedbench.methods.pfedhn import PFedHN
from fedbench.methods.pfedhn_pc import PFedHNPC
from fedbench.methods.pfedme import PFedMe
from fedbench.plugins import Plugin
from fedbench.tree import Tree

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


@wrong("message size is constant", "bytes from server_send")
class MoreLater(EveryOtherRound):
    """Sends more from the tenth round on."""

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        sent = server if cohort.round < 10 else {**server, "extra": torch.zeros(1000)}
        return tree.expand(sent, len(cohort.ids))


@wrong("no file is opened", "__post_init__ opens /dev/null")
class ReadsWhenItIsMade(FedAvg):
    """Looks up a number where no spec and no code hash tells of it."""

    def __post_init__(self) -> None:
        Path("/dev/null").read_text()


@wrong("no file is opened", "train_draw opens /dev/null")
class ReadsItsBatches(FedAvg):
    """Reads how many batches it wants."""

    @property
    def train_draw(self) -> Draw:
        return Draw(self.local.steps + len(Path("/dev/null").read_text()), self.local.batch_size)


@wrong("the process is left as it was", "__post_init__ changes torch's global generator")
class DrawsWhenItIsMade(FedAvg):
    def __post_init__(self) -> None:
        torch.rand(1)


@wrong("effort is as declared", "client_train computes 5 gradients a visit, where gradients_per_visit says 50")
class AtMostFiveSteps(FedAvg):
    """Trains less than it says, where more than a few steps are asked for."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(message, state, batches[:5])


@wrong("each image is scored for itself", "in other company: a difference")
class NormalisesLargeBatches(FedAvg):
    """Scores by what a batch has in common, where it is large enough."""

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        scores = super().predict(model, images)
        return scores - scores.mean(0) if len(images) >= 32 else scores


@wrong("what a client draws comes back and changes", "after two visits fc2.bias, fc2.weight is as client_init made it")
class CountsAndKeepsAnOldHead(FedPer):
    """Counts its visits, and never trains the head that it drew."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, _ = super().client_train(message, state, batches)
        return upload, {**state, "visits": state.get("visits", torch.zeros(())) + 1}


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


@wrong("same seed same bits", "two fresh instances: a difference")
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


@wrong("client order does not matter", "server: a difference")
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


@wrong("loop equals vmap", "after two rounds: a difference")
class MeanOfPadding(FedAvg):
    """Scales its step with the length of a batch, padding included."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        return tree.add_scaled(message, tree.sub(upload, message), batches.shape[1] / 8), state


@wrong("padded and short batches change nothing", "client_train on a batch")
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


@wrong("what a client keeps matters", "neither model nor upload depends on control")
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


@wrong("the server changes after a round", "the same state")
@wrong("a visit changes the model of the client that was visited", "the model of client 0 is the same")
class ForgetsTheUpload(FedAvg):
    """Clients send back what they were given: the average differs from it by rounding alone."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        super().client_train(message, state, batches)
        return message, state


@wrong("messages are stacked tensors", "the server's state holds a ndarray: make it a tensor")
class KeepsAnArray(FedAvg):
    """The server counts its rounds in numpy."""

    def server_init(self, rng: torch.Generator) -> Any:
        return {"model": super().server_init(rng), "round": np.zeros(1)}

    def server_send(self, server: Any, cohort: Cohort) -> Tree:
        return super().server_send(server["model"], cohort)

    def server_receive(self, server: Any, cohort: Cohort, upload: Tree) -> Any:
        return {"model": super().server_receive(server["model"], cohort, upload), "round": server["round"] + 1}


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


@wrong("what is fitted for one client is its own", "all clients have the same model")
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


# ---------- rows that no message carried


@wrong("the server reads no rows", "server_init with other rows of all clients")
class PretrainsOnEverything(FedAvg):
    """The server begins with a model that was trained on all clients' images."""

    def server_init(self, rng: torch.Generator) -> Tree:
        rows = torch.arange(len(self.task.labels)).split(8)[:2]
        return train(self.task, self.local, super().server_init(rng), torch.stack(rows))[0]


@wrong("the server reads no rows", "server_receive with other rows of all clients")
class FineTunesOnTheServer(FedAvg):
    """One step of the server on everybody's images after each average."""

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        model = super().server_receive(server, cohort, upload)
        return tree.add_scaled(model, self.task.grad(model, torch.arange(8)), -0.01)


@wrong("a client reads its own rows only", "client_train: a difference")
class EverybodysLabels(FedAvg):
    """Weighs its step by how rare a client's first class is among all clients."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        share = (self.task.labels == self.task.batch(batches[0])[1][0]).double().mean().to(self.task.dtype)
        return tree.add_scaled(message, tree.sub(upload, message), share), state


@wrong("a client reads its own rows only", "client_train: a difference")
class TakesRowsForItsOwn(FedAvg):
    """Takes the first rows of all for the client's: right for client 0."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(message, state, torch.arange(batches.numel()).view_as(batches) % 14)


@wrong("a client reads its own rows only", "client_train: a difference")
class TellsByNumbers(FedAvg):
    """Steps by the numbers of its rows, which say how many the clients before it hold."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        return tree.add_scaled(message, tree.sub(upload, message), 1 + 1e-3 * batches.to(self.task.dtype).mean()), state


@wrong("a client reads its own rows only", "predict: a difference")
class AsksEverybodysNeighbours(FedAvg):
    """Mixes in the nearest neighbour's label, among the images of all clients."""

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        known, labels = self.task.batch(torch.arange(len(self.task.labels)))
        nearest = torch.cdist(images.flatten(1), known.flatten(1)).argmin(1)
        return super().predict(model, images) + F.one_hot(labels[nearest], self.task.classes)


# ---------- what crosses without being sent


@wrong("nothing crosses without being sent", "AttributeError")
class BodyOnTheObject(FedPer):
    """Hands the body over on the object: 0 bytes down."""

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        object.__setattr__(self, "body", server)
        return {}

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        model, _ = train(self.task, self.local, {**self.body, **state}, batches)  # type: ignore[attr-defined]
        return tree.drop(model, state), tree.pick(model, state)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return {**self.body, **state}  # type: ignore[attr-defined]


GLOBAL: dict[str, Tree] = {}


@wrong("a fresh process answers the same", "in a fresh process: KeyError")
class BodyInAGlobal(FedAvg):
    """Hands the model over in a module's variable."""

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        GLOBAL["model"] = server
        return {}

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(GLOBAL["model"], state, batches)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return GLOBAL["model"]


@wrong("a fresh process answers the same", "server_receive by itself: a difference")
class UploadInAGlobal(FedAvg):
    """The server adds what the last client left in a module's variable."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        GLOBAL["extra"] = tree.sub(upload, message)
        return upload, state

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        extra = GLOBAL.get("extra", tree.zeros_like(server))
        return tree.add_scaled(super().server_receive(server, cohort, upload), extra, 0.1)


@wrong("every entry of a message is used", "'extra' of the message")
class SendsMore(FedAvg):
    """Sends something that clients throw away."""

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return {**super().server_send(server, cohort), "extra": torch.ones(len(cohort.ids), 100)}

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(tree.drop(message, ["extra"]), state, batches)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return tree.drop(message, ["extra"])


@wrong("every entry of a message is used", "'loss' of the upload")
class UploadsMore(FedAvg):
    """Uploads a loss that the server throws away."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        return {**upload, "loss": self.task.loss(upload, batches[0]).detach()}, state

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return super().server_receive(server, cohort, tree.drop(upload, ["loss"]))


# ---------- the process


@wrong("a fresh process makes the same run", "with another PYTHONHASHSEED: ")
class HashOfAText(FedAvg):
    """Seeds its noise by the hash of a text, which is another one in every process."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        rng = torch.Generator().manual_seed(hash("noise") % 2**31)
        return {n: v + 1e-3 * torch.randn(v.shape, generator=rng) for n, v in upload.items()}, state


@wrong("a fresh process makes the same run", "with another PYTHONHASHSEED: ")
class OrderOfASet(FedAvg):
    """Gives each entry a rate by its place in a set."""

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        mean = super().server_receive(server, cohort, upload)
        rates = {name: 1 / (place + 1) for place, name in enumerate({*server, *"abcdefghijklmnopqrstuvwxyz"})}
        return {name: torch.lerp(server[name], mean[name], rates[name]) for name in server}


@wrong("runs that take turns do not disturb each other", "the run of seed")
class CachedByRound(FedAvg):
    """Remembers the message of a round, whatever run it belongs to."""

    def server_init(self, rng: torch.Generator) -> Tree:
        GLOBAL.clear()
        return super().server_init(rng)

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return tree.expand(GLOBAL.setdefault(f"round {cohort.round}", server), len(cohort.ids))


@lru_cache
def _start(clients: int) -> list[Tree]:
    return []


@wrong("another seed gives another start", "two seeds start with the same")
class CachedStart(FedAvg):
    """Caches the first model that was ever drawn."""

    def server_init(self, rng: torch.Generator) -> Tree:
        known = _start(self.task.clients)
        known.append(super().server_init(rng))
        return known[0]


@wrong("another seed gives another start", "two seeds start with the same")
class AlwaysTheSameStart(FedAvg):
    """Draws the model from a seed of its own."""

    def server_init(self, rng: torch.Generator) -> Tree:
        return super().server_init(torch.Generator().manual_seed(0))


@wrong("another seed gives another start", "two seeds start with the same")
class FineTunesTheSameStart(FedAvgFT):
    """The same, and every client adapts it to its own batches, which another seed draws otherwise."""

    def server_init(self, rng: torch.Generator) -> Tree:
        return super().server_init(torch.Generator().manual_seed(0))


@wrong("the process is left as it was", "server_init changes the switch torch.backends.mkldnn.enabled")
class SwitchesOffOneDNN(FedAvg):
    """Switches fast kernels off for everybody, to have the same bits elsewhere."""

    def server_init(self, rng: torch.Generator) -> Tree:
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        return super().server_init(rng)


@wrong("the process is left as it was", "client_train changes torch's global generator")
class SeedsTheGlobalGenerator(FedAvg):
    """Draws from the global generator, which it seeds: the same bits, and neighbours' numbers are changed."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        torch.manual_seed(0)
        upload, state = super().client_train(message, state, batches)
        return {n: v + 1e-3 * torch.randn(v.shape) for n, v in upload.items()}, state


@wrong("the process is left as it was", "server_init changes Python's global generator")
class SeedsPython(FedAvg):
    """Chooses by Python's generator."""

    def server_init(self, rng: torch.Generator) -> Tree:
        random.seed(1)
        return super().server_init(rng)


@wrong("no file is opened", "server_init opens ")
class ReadsAFile(FedAvg):
    """Reads settings that no spec knows."""

    def server_init(self, rng: torch.Generator) -> Tree:
        Path(__file__).read_text()
        return super().server_init(rng)


@wrong("no file is opened", "client_train opens ")
class SavesATensor(FedAvg):
    """Keeps what a client has sent in an archive, which torch writes without asking Python."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(upload, f"{folder}/upload.pt")
        return upload, state


@wrong("no file is opened", "server_init opens :memory:")
class KeepsADatabase(FedAvg):
    """Asks a database that others may write to."""

    def server_init(self, rng: torch.Generator) -> Tree:
        sqlite3.connect(":memory:").close()
        return super().server_init(rng)


@wrong("no file is opened", "server_init starts another process")
class Forks(FedAvg):
    """Draws in a process of its own."""

    def server_init(self, rng: torch.Generator) -> Tree:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return super().server_init(rng)


@wrong("no file is opened", "server_init looks into .")
class LooksAround(FedAvg):
    """Does something else where a folder of its own is there."""

    def server_init(self, rng: torch.Generator) -> Tree:
        list(Path().iterdir())
        return super().server_init(rng)


# ---------- effort


@wrong("effort is as declared", "client_train computes 15 gradients a visit, where gradients_per_visit says 3")
class FiveEpochs(FedAvg):
    """Goes over its batches five times."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(message, state, batches.repeat(5, 1))


@wrong("effort is as declared", "client_train computes 30 gradients a visit, where gradients_per_visit says 3")
class TenFoldDraws(FedAvg):
    """Draws ten times the batches."""

    @property
    def train_draw(self) -> Draw:
        return Draw(10 * self.local.steps, self.local.batch_size)


@wrong("effort is as declared", "client_train computes 9 gradients a visit, where gradients_per_visit says 3")
class LargeBatches(FedAvg):
    """Draws ten times the rows; the clients of the kit have three batches of them."""

    @property
    def train_draw(self) -> Draw:
        return Draw(self.local.steps, 10 * self.local.batch_size)


@wrong("effort is as declared", "client_train computes 3 gradients a visit, where gradients_per_visit says 6")
class TooManySteps(FedAvg):
    """Claims more steps than it makes."""

    @property
    def steps_per_visit(self) -> int:
        return 2 * self.local.steps


@wrong("effort is as declared", "no step is without a gradient")
class StepsWithoutGradients(FedAvg):
    """Declares its gradients rightly, and its steps wrongly."""

    @property
    def steps_per_visit(self) -> int:
        return 2 * self.local.steps

    @property
    def gradients_per_visit(self) -> int:
        return self.local.steps


@wrong("effort is as declared", "client_personalize computes 60 gradients, where gradients_to_personalize says 1")
class TunesBeforeScoring(FedAvg):
    """Trains for twenty visits before it is scored, on one batch that is declared."""

    @property
    def personalize_draw(self) -> Draw:
        return Draw(1, self.local.batch_size)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return train(self.task, self.local, message, batches.repeat(20 * self.local.steps, 1))[0]


@wrong("effort is as declared", "predict computes 1 gradients, which nothing declares")
class TunesInPredict(FedAvg):
    """Keeps row numbers in the model and trains on them when it is scored."""

    @property
    def personalize_draw(self) -> Draw:
        return Draw(1, self.local.batch_size)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return {**message, "rows": batches[0]}

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        plain = tree.drop(model, ["rows"])
        return super().predict(tree.add_scaled(plain, self.task.grad(plain, model["rows"]), -0.1), images)


@wrong("effort is as declared", "client_train computes 12 gradients a visit, where gradients_per_visit says 6")
class HidesTheHessian(PerFedAvg):
    """The exact variant, declared as the first-order one."""

    @property
    def gradients_per_visit(self) -> int:
        return 2 * self.local.steps

    def meta_gradient(self, model: Tree, rows: Tensor) -> Tree:
        pull_back = torch.func.vjp(lambda w: torch.func.grad(self.task.loss)(w, rows[1]), model)[1]
        return tree.add_scaled(v := super().meta_gradient(model, rows), pull_back(v)[0], -self.alpha)


@wrong("effort is as declared", "client_train computes 6 gradients a visit, where gradients_per_visit says 3")
class HidesBackward(FedAvg):
    """Takes another gradient by torch's ordinary autograd."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        upload, state = super().client_train(message, state, batches)
        for rows in batches:
            with torch.enable_grad():
                leaf = {name: value.detach().requires_grad_() for name, value in upload.items()}
                grads = torch.autograd.grad(self.task.loss(leaf, rows), list(leaf.values()))
            upload = {n: v - 0.01 * g for (n, v), g in zip(upload.items(), grads, strict=True)}
        return upload, state


# ---------- seeds, clients, rounds, networks


@wrong("a visit changes the model of the client that was visited", "the model of client 0 is the same")
class OffByOne(FedAvg):
    """The server keeps a model for each client and files uploads under the next number."""

    def server_init(self, rng: torch.Generator) -> Tree:
        return tree.stack([self.task.init(rng) for _ in range(self.task.clients)])

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return {name: value[cohort.ids % self.task.clients] for name, value in server.items()}

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        places = (cohort.ids + 1) % self.task.clients
        return {name: value.index_copy(0, places, upload[name]) for name, value in server.items()}


@wrong("a visit changes the model of the client that was visited", "the embedding of client 0 moves no otherwise")
class NextEmbedding(PFedHN):
    """Pulls a client's change back to the next client's embedding."""

    def server_receive(self, server: dict[str, Any], cohort: Cohort, upload: Tree) -> dict[str, Any]:
        return super().server_receive(server, cohort._replace(ids=(cohort.ids + 1) % self.task.clients), upload)


@wrong("a message does not depend on the cohort", "server_send to client")
class SharesTheBudget(FedAvg):
    """Scales what it sends by a client's share of the cohort."""

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        sent = super().server_send(server, cohort)
        return {n: v * (1 + cohort.weight.view(-1, *[1] * (v.ndim - 1)).to(v)) for n, v in sent.items()}


@wrong("a run of one round works", "ZeroDivisionError")
class DividesByRounds(FedAvg):
    """Interpolates between the first and the last round."""

    depends_on_length = True

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        rate = 1 - 0.5 * cohort.round / (cohort.rounds - 1)
        return tree.lerp(server, super().server_receive(server, cohort, upload), rate)


@wrong("a shorter run is the beginning of a longer one", "after 6 visits of 6 and of 12")
class Decays(FedAvg):
    """Lowers its rate to zero over the run, and does not say so."""

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return tree.lerp(server, super().server_receive(server, cohort, upload), 1 - cohort.round / cohort.rounds)


@wrong("a shorter run is the beginning of a longer one", "the last round and round 6 of 1005")
class LastPhase(FedAvg):
    """Steps less far in the last quarter of a run, which the runs that are compared do not reach."""

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        rate = 0.1 if cohort.round >= 0.75 * cohort.rounds else 1.0
        return tree.lerp(server, super().server_receive(server, cohort, upload), rate)


@wrong("the process is left as it was", "server_receive changes torch's global generator")
class NoiseAfterAWarmUp(FedAvg):
    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        new = super().server_receive(server, cohort, upload)
        noise = 0.1 * float(torch.rand(())) if cohort.round >= 20 else 0.0
        return tree.add_scaled(new, new, noise)


@wrong("no file is opened", "server_send opens ")
class ReadsAfterAWarmUp(FedAvg):
    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        if cohort.round >= 50:
            Path(__file__).read_bytes()
        return super().server_send(server, cohort)


@wrong("same seed same bits", "a fresh instance in a later round")
class DrawsAfterAWarmUp(FedAvg):
    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        new = super().server_receive(server, cohort, upload)
        noise = np.random.default_rng().normal() if cohort.round >= 20 else 0.0
        return tree.add_scaled(new, new, noise)


@wrong("every batch that is drawn is used", "client_personalize does not depend on batch 1 of its 3")
class ForgetsTheFirstBatch(FedAvgFT):
    """Tunes on all batches but the first."""

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return super().client_personalize(message, state, batches[1:])


@wrong("every batch that is drawn is used", "client_train does not depend on batch 2 of its 3")
class OneBatchForAll(FedAvg):
    """Makes all its steps on its first batch."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(message, state, batches[:1].expand_as(batches))


@wrong("what a client draws comes back and changes", "is drawn anew at every visit")
class NewHeadAtEveryVisit(FedPer):
    """Draws a head, trains it, and does not keep it."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(message, state, batches)[0], {}


@wrong("what a client draws comes back and changes", "is as client_init made it")
class OldHeadForever(FedPer):
    """Keeps the head that it drew and not the one that it trained."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(message, state, batches)[0], state


@wrong("messages are stacked tensors", "in the server's state a tensor requires a gradient")
class StateInTheGraph(FedAvg):
    """Keeps parameters as an optimizer would want them."""

    def server_init(self, rng: torch.Generator) -> Tree:
        return {name: value.requires_grad_() for name, value in super().server_init(rng).items()}


@wrong("clients of several networks are served", "KeyError")
class ForgetsOtherHeads(PFedHN):
    """Keeps after a round the heads of the network that was visited, and no others."""

    def server_receive(self, server: dict[str, Any], cohort: Cohort, upload: Tree) -> dict[str, Any]:
        new = super().server_receive(server, cohort, upload)
        name, several = self.task.network.name, len(self.task.networks) > 1
        kept = {n: v for n, v in new["phi"].items() if not several or n.startswith(("trunk", f"head.{name}."))}
        return {**new, "phi": kept}


@wrong("clients of several networks are served", "the model of client 1 has other shapes")
class MixedAverage(FedAvg):
    """Says that one model serves clients of all networks."""

    mixed = True


@wrong("clients of several networks are served", "has other shapes")
class FirstNetwork(FedAvg):
    """Draws the first network's model, whichever network its clients have."""

    def server_init(self, rng: torch.Generator) -> Tree:
        return self.task.networks[0].init(rng, self.task.dtype)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """The forgetful ones leave things in variables of this module."""
    MEMORY.clear()
    GLOBAL.clear()
    _start.cache_clear()
    yield
    torch.backends.mkldnn.enabled = True  # type: ignore[assignment]


def subject(cls: type[Method]) -> Subject:
    return Subject(Plugin("wrong", cls, "wrong", "0"))


CASES = [
    pytest.param(*case, id=case[2].__name__, marks=[pytest.mark.slow] if case[0].startswith("a fresh process") else [])
    for case in WRONG
]


@pytest.mark.parametrize(("sentence", "seen", "cls"), CASES)
def test_a_wrong_method_is_caught_by_the_check_meant_for_it(sentence: str, seen: str, cls: type[Method]) -> None:
    result = run_check(subject(cls), sentence)
    assert result.status == "fails"
    assert seen in result.seen


def test_every_check_bites() -> None:
    assert {sentence for sentence, _, _ in WRONG} == set(sentences())
