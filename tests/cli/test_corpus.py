# ruff: noqa: E501 (a case stands on one line)
"""Bad input of every kind: one sentence that names the culprit, the value and the remedy, status 2, never a traceback.

Each case runs in a forked child, in an empty folder of its own: a fork costs a few hundredths of a second, where a fresh
interpreter takes seconds, and whatever a plug-in does to the process is gone afterwards. A case is its files, its
command line, and pieces of what must be printed; status 1 is that of a run which failed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fedbench import cli, plugins
from fedbench.cli.console import err, out
from fedbench.dataset import data_root
from fedbench.runs.prepare import load_data

SECONDS = 60  # a case that takes longer is a hang


class Case(NamedTuple):
    """Files (by name, beside which the command runs), its arguments, and what must be printed."""

    name: str
    files: dict[str, str | bytes]
    arguments: tuple[str, ...]
    pieces: tuple[str, ...]
    status: int = 2


CASES: list[Case] = []
QUICK = ("--visits", "2", "--evaluate-every", "2", "--seeds", "42", "--jobs", "1")

METHOD = """\
from dataclasses import dataclass, field
from typing import Annotated, Literal
import torch
from pydantic import Field
from fedbench import tree
from fedbench.local import SGD, train
from fedbench.method import Method
#TOP

@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    title = "Mine"
    paper = "me, 2026"
    #FIELD

    def server_init(self, rng):
        return self.task.init(rng)

    def server_send(self, server, cohort):
        return tree.expand(server, len(cohort.ids))

    def client_train(self, message, state, batches):
        #TRAIN
        return train(self.task, self.local, message, batches[:1])[0], state

    def server_receive(self, server, cohort, upload):
        return tree.average(upload, cohort.weight)
    #MORE
"""
DATASET = """\
from pathlib import Path
import numpy as np
import torch
from fedbench.dataset import Data, Dataset

class Mine(Dataset):
    title = "Mine"
    source = "me"
    network = "mlp-digits"
    cached = False
    #FIELD

    def load(self, root):
        draws = np.random.default_rng(0)
        images = torch.from_numpy(draws.integers(0, 256, (400, 1, 8, 8)).astype(np.uint8))
        labels = torch.arange(400) % 10
        #LOAD
        return Data(images=images, labels=labels, classes=10, mean=(0.5,), std=(0.3,))
    #MORE
"""
PARTITION = """\
from typing import Annotated
import numpy as np
import pydantic
from pydantic import Field
from fedbench.partition import Kind

@pydantic.dataclasses.dataclass(frozen=True)
class Mine(Kind):
    skew: Annotated[float, Field(gt=0, description="skew")] = 1.0
    #FIELD

    def shares(self, data, clients, seed):
        #SHARES
        return np.full((clients, data.classes), 1 / clients)
    #MORE
"""
NETWORK = """\
import torch
from torch.nn import functional as F
from fedbench.models import Network

def network(image, classes):
    c, h, w = image
    shapes = {"fc1.weight": (4, c * h * w), "fc1.bias": (4,), "fc2.weight": (classes, 4), "fc2.bias": (classes,)}
    def logits(p, x):
        #LOGITS
        x = F.relu(F.linear(x.flatten(1), p["fc1.weight"], p["fc1.bias"]))
        return F.linear(x, p["fc2.weight"], p["fc2.bias"])
    #MORE
    return Network("mine", shapes, logits)
"""


def filled(template: str, **parts: str) -> str:
    """`template` with the lines `#NAME` replaced, and the indentation of each kept."""
    lines = []
    for line in template.splitlines():
        mark = line.strip()
        if mark.startswith("#"):
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + part for part in parts.get(mark[1:], "").splitlines()]
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


pieces: tuple[str, ...]  # what must be printed in a case of a table


def bad(
    name: str,
    arguments: tuple[str, ...],
    *pieces: str,
    status: int = 2,
    files: dict[str, str] | None = None,
    **named: str | bytes,
) -> None:
    """A case; `__` in the name of a file stands for its dot."""
    named = {**{file.replace("__", "."): text for file, text in named.items()}, **(files or {})}
    CASES.append(Case(name, named, arguments, pieces, status))


def method(name: str, text: str | bytes, *pieces: str, status: int = 2, file: str = "mine.py") -> None:
    """A method's file that `run` is given."""
    CASES.append(Case(f"method: {name}", {file: text}, ("run", "--methods", f"./{file}", *QUICK), pieces, status))


# ---------------------------------------------------------------- methods: import

for name, text, pieces in (
    ("empty", "", ("mine.py", "must define exactly one subclass of Method", "none")),
    ("syntax", "def f(:\n", ("mine.py cannot be imported", "SyntaxError", "line 1")),
    ("indentation", "if 1:\npass\n", ("IndentationError", "line 2")),
    ("missing module", "import nothing_of_that_name\n", ("nothing_of_that_name", "mine.py, line 1, in <module>")),
    ("missing name", "from fedbench.method import Methud\n", ("cannot import name 'Methud'", "mine.py, line 1")),
    ("raises", "\nraise ValueError('no luck')\n", ("ValueError: no luck", "mine.py, line 2, in <module>")),
    ("exits 0", "import sys\nsys.exit(0)\n", ("it calls sys.exit(0)", "mine.py, line 2")),
    ("exits", "import sys\nsys.exit()\n", ("it calls sys.exit()", "mine.py, line 2")),
    ("exits with a text", "raise SystemExit('bye')\n", ("sys.exit(bye)", "mine.py, line 1")),
    ("base exception", "raise BaseException('deep')\n", ("BaseException: deep", "mine.py, line 1")),
    ("generator exit", "class Own(BaseException): pass\nraise Own\n", ("Own", "mine.py, line 2")),
    ("recursion", "def f(): f()\nf()\n", ("RecursionError", "mine.py, line 1, in f")),
    ("error without text", "class E(Exception):\n def __str__(self): raise E\nraise E\n", ("E: (its text", "line 3")),
    ("error of many lines", "raise ValueError('one\\ntwo\\n\\nthree')\n", ("ValueError: one two three",)),
    ("error of surrogates", "raise ValueError('a\\udc80b')\n", ("ValueError: a b",)),
    ("error of escapes", "raise ValueError('a\\x1b[31mb')\n", ("ValueError: a [31mb",)),
    ("long error", "raise ValueError('x' * 10**6)\n", ("xxx ...",)),
    ("latin-1", METHOD.encode() + "# caf\xe9\n".encode("latin-1"), ("mine.py", "UTF-8")),
    ("null bytes", b"x = 1\0\n", ("mine.py cannot be imported", "null bytes")),
    ("not utf-8", b"\xff\xfe\x00", ("mine.py cannot be imported",)),
    ("unpaired quotes", 'x = """\n', ("SyntaxError", "line 1")),
    ("two methods", METHOD + METHOD.replace("Mine", "Other"), ("exactly one subclass", "Mine, Other")),
    ("abstract", filled(METHOD).replace("def server_send", "def send"), ("Mine does not define server_send",)),
    ("no title", filled(METHOD).replace('title = "Mine"', ""), ("Mine has no title", 'title = "..."')),
    ("title of a number", filled(METHOD).replace('"Mine"', "7"), ("title 7", "mine.py, line 11")),
    ("no paper", filled(METHOD).replace('paper = "me, 2026"', ""), ("Mine has no paper",)),
    ("no dataclass", filled(METHOD).replace("@dataclass(frozen=True, kw_only=True)", ""), ("lacks @dataclass",)),
    ("not frozen", filled(METHOD).replace("frozen=True, ", ""), ("frozen", "mine.py, line 9")),
    ("is a data set", filled(DATASET), ("exactly one subclass of Method", "it defines a data set")),
    ("is a network", filled(NETWORK), ("exactly one subclass of Method", "it defines a network")),
    ("decorated away", filled(METHOD, TOP="def nothing(cls): pass").replace("@dataclass", "@nothing\n@dataclass"),
     ("exactly one subclass of Method", "none")),
    ("subclass hook", filled(METHOD, TOP="class Base:\n    def __init_subclass__(cls): raise OSError('no')")
     .replace("(Method)", "(Base, Method)"), ("OSError: no", "mine.py, line 9, in __init_subclass__")),
    ("metaclass", filled(METHOD, TOP="from abc import ABCMeta\nclass Meta(ABCMeta):\n    def __subclasscheck__(cls, other):"
     " return issubclass(other, cls)\n    def __getattribute__(cls, name): return getattr(cls, name)")
     .replace("(Method)", "(Method, metaclass=Meta)"), ("RecursionError",)),
    ("strange value", "class Odd:\n    def __getattribute__(self, name): raise OSError('odd')\nodd = Odd()\n",
     ("mine.py cannot be looked at", "OSError: odd", "line 2")),
    ("mixed", filled(METHOD, FIELD='mixed = "yes"'), ("mixed 'yes'", "mixed = False")),
    ("depends_on_length", filled(METHOD, FIELD="depends_on_length = 1"), ("depends_on_length 1",)),
    ("deviations", filled(METHOD, FIELD="deviations = ['a']"), ("deviations ['a']",)),
    ("field without annotation", filled(METHOD, FIELD="clients_per_round = 2"),
     ("clients_per_round (mine.py, line", "has no annotation, so that the default stays")),
    ("no property", filled(METHOD, FIELD="def steps_per_visit(self): return 3"),
     ("steps_per_visit (mine.py, line", "write @property above it")),
    ("misspelt function", filled(METHOD, FIELD="def client_personalise(self, message, state, batches): return message"),
     ("client_personalise (mine.py, line", "is never called: is client_personalize meant?")),
    ("helper missing", filled(METHOD, TOP="import nowhere_helper"), ("nowhere_helper", "mine.py, line 8")),
):  # fmt: skip
    method(name, text, *pieces)

RUN = ("run", *QUICK, "--methods")
bad("helper fails", (*RUN, "mine.py"), "OSError: no", "helper.py, line 2, in f, called from mine.py, line 2",
    mine__py="import helper\nhelper.f()\n", helper__py="def f():\n raise OSError('no')\n")  # fmt: skip
bad("helper with a mistake", (*RUN, "mine.py"), "SyntaxError", "helper.py, line 1",
    mine__py="import helper\n", helper__py="x = (\n")  # fmt: skip
bad("helper exits", (*RUN, "mine.py"), "it calls sys.exit(3)", "helper.py, line 1",
    mine__py="from helper import x\n", helper__py="raise SystemExit(3)\n")  # fmt: skip
bad("helper lacks a name", (*RUN, "mine.py"), "cannot import name 'y' from 'helper'",
    mine__py="from helper import y\n", helper__py="x = 1\n")  # fmt: skip

for file, pieces in (
    (f"{'n' * 90}.py", ("is no name for a method", "up to 60")),
    ("my.method.py", ("'my.method' is no name for a method",)),
    ("-.py", ("'-' is no name",)),
    ("mé.py", ("is no name for a method",)),
    ("fedavg.py", ("name of the built-in method 'fedavg'", "rename")),
    ("FedAvg.py", ("name of the built-in method 'fedavg'",)),
    ("all.py", ("'all' stands for every method", "rename")),
):
    method(f"name {file[:20]}", filled(METHOD), *pieces, file=file)
for text, pieces in (
    ("nowhere.py", ("there is no method file nowhere.py",)),
    ("nowhere/mine.py", ("there is no method file nowhere/mine.py",)),
    ("~nobody/mine.py", ("~nobody/mine.py",)),
    (f"{'x' * 300}.py", ("File name too long",)),
    ("a\0b.py", ("null byte",)),
    ("pfednh", ("no method called 'pfednh'", "Did you mean 'pfedhn'?")),
    ("pfedhn,pFedHN", ("the method pfedhn was named twice",)),
    ("", ("no method was named",)),
    (" , ,", ("no method was named",)),
    (".py", ("no method",)),
    ("local.py", ("there is no method file local.py",)),
):
    bad(f"--methods {text[:20]!r}", (*RUN, text), *pieces)
bad("a file at hand", (*RUN, "mine"), "no method called 'mine'", "write ./mine.py for it", mine__py=filled(METHOD))
bad("a folder", (*RUN, "folder.py"), "folder.py is a folder", files={"folder.py/x": ""})

# ---------------------------------------------------------------- methods: annotations and defaults

for name, top, line, pieces in (
    ("3", "", "mu: 3 = 1", ("mu",)),
    ("'a b'", "", "mu: 'a b' = 1", ("Mine.mu", "SyntaxError", "line 13")),
    ("a module", "", "mu: torch = 1", ("mu",)),
    ("unknown", "", "mu: 'Unknown' = 1", ("Mine.mu", "NameError: name 'Unknown'", "mine.py, line 13")),
    ("attribute", "", "mu: 'torch.Nothing' = 1", ("Mine.mu", "AttributeError")),
    ("raises", "def f(): raise OSError('no')", "mu: 'f()' = 1", ("Mine.mu", "OSError: no", "line 8, in f")),
    ("exits", "import sys", "mu: 'sys.exit(0)' = 1", ("sys.exit(0)",)),
    ("tensor", "", "mu: torch.Tensor = torch.zeros(1)", ("mu", "mine.py")),
    ("tensor made", "", "mu: torch.Tensor = field(default_factory=lambda: torch.zeros(1))", ("mu is a Tensor",)),
    ("None", "", "mu: torch.Tensor = None", ("mu", "Tensor")),
    ("range of text", "", "mu: Annotated[float, Field(gt='a', description='m')] = 1.0", ("mu", "TypeError")),
    ("bare Annotated", "", "mu: 'Annotated[float]' = 1.0", ("Mine.mu", "TypeError")),
    ("list", "", "mu: list = [1]", ("mutable default", "mine.py")),
    ("tuple", "", "mu: tuple[int, ...] = (1, 2)", ("mu is a tuple: use a number", "line 13")),
    ("dict", "", "mu: dict = field(default_factory=dict)", ("mu is a dict: use a number",)),
    ("function", "def f(): pass", "mu: object = f", ("mu is a function: use a number",)),
    ("class", "", "mu: type = SGD", ("mu is a type: use a number",)),
    ("missing default", "", "mu: float", ("mu of Mine has no default", "line 13")),
    ("failing default", "def f(): raise OSError('no')", "mu: float = field(default_factory=f)",
     ("the default of Mine.mu", "OSError: no", "mine.py, line 8, in f")),
    ("exiting default", "import sys", "mu: float = field(default_factory=lambda: sys.exit(0))", ("sys.exit(0)",)),
    ("NaN", "", "mu: float = float('nan')", ("mine.mu=nan", "finite")),
    ("infinite", "", "mu: float = float('inf')", ("mine.mu=inf", "finite")),
    ("out of range", "", "mu: Annotated[float, Field(ge=0, description='m')] = -1.0", ("mine.mu=-1.0", "greater")),
    ("of another type", "", "mu: float = 'ten'", ("mine.mu=ten", "number")),
    ("of no choice", "", "mu: Literal['a', 'b'] = 'c'", ("mine.mu=c", "'a' or 'b'")),
    ("huge", "", "mu: int = 10**30", ("mine.mu=1000000", "more than makes sense")),
    ("post_init", "", "def __post_init__(self): raise OSError('no')", ("mine cannot be set up: OSError: no", "line 13")),
    ("post_init exits", "import sys", "def __post_init__(self): sys.exit(0)", ("mine cannot be set up", "sys.exit(0)")),
    ("group in itself", "@dataclass(frozen=True)\nclass G:\n    g: 'G' = None\nG.__dataclass_fields__['g'].default = G()",
     "g: G = G()", ("G in a G", "nest no group in itself")),
    ("group of text", "", "optimizer: SGD = 'sgd'", ("optimizer.* must be a SGD, not 'sgd'", "SGD()")),
    ("group raises", "@dataclass(frozen=True)\nclass G:\n    x: int = 1\n    def __post_init__(self):\n"
     "        if self.x > 1: raise OSError('no')", "g: G = G()", ()),
    ("group of tensors", "@dataclass(frozen=True)\nclass G:\n    x: torch.Tensor = torch.zeros(1)", "g: G = G()", ("x",)),
):  # fmt: skip
    if name != "group raises":
        method(f"field {name}", filled(METHOD, TOP=top, FIELD=line), *pieces)
    else:
        bad("field group raises", (*RUN, "mine.py", "--set", "mine.g.x=2"), "OSError: no", "in __post_init__",
            mine__py=filled(METHOD, TOP=top, FIELD=line))  # fmt: skip

# ---------------------------------------------------------------- methods: while they train (a failed run)

FAILED = ("failed: mine, seed 42",)
for name, parts, pieces in (
    ("raises", {"TRAIN": "raise OSError('no')"}, ("OSError: no", "in client_train", "raise OSError('no')")),
    ("exits 0", {"TRAIN": "import sys; sys.exit(0)"}, ("it calls sys.exit(0)", "in client_train")),
    ("base exception", {"TRAIN": "raise BaseException('deep')"}, ("BaseException: deep",)),
    ("recursion", {"TRAIN": "return self.client_train(message, state, batches)"}, ("RecursionError",)),
    ("memory", {"TRAIN": "raise MemoryError"}, ("MemoryError",)),
    ("stop iteration", {"TRAIN": "next(iter([]))"}, ("StopIteration", "in client_train")),
    ("without text", {"TRAIN": "class E(Exception):\n    __str__ = None\nraise E"}, ("E: (its text cannot be made)",)),
    ("returns None", {"TRAIN": "return None"}, ()),
    ("returns a number", {"TRAIN": "return 1"}, ()),
    ("keeps a number", {"TRAIN": "return message, {'n': 1}"}, ()),
    ("loses a parameter", {"TRAIN": "return dict(list(message.items())[1:]), state"}, ("KeyError",)),
    ("division", {"TRAIN": "1 / 0"}, ("ZeroDivisionError", "1 / 0")),
    ("server_init", {"MORE": "def server_init(self, rng): raise OSError('no')"}, ("OSError: no", "in server_init")),
    ("signature", {"MORE": "def server_init(self): return {}"}, ("TypeError", "server_init")),
    ("not stacked", {"MORE": "def server_send(self, server, cohort): return server"}, ()),
    ("message None", {"MORE": "def server_send(self, server, cohort): return None"}, ()),
    ("server_receive", {"MORE": "def server_receive(self, server, cohort, upload): return 1 / 0"}, ("ZeroDivision",)),
    ("client_init", {"MORE": "def client_init(self, welcome, rng): raise OSError('no')"}, ("in client_init",)),
    ("client_personalize", {"MORE": "def client_personalize(self, message, state, batches): return {}"}, ()),
    ("predict", {"MORE": "def predict(self, model, images): raise SystemExit(0)"}, ("sys.exit(0)", "in predict")),
    ("predict a number", {"MORE": "def predict(self, model, images): return 3"}, ()),
    ("train_draw", {"MORE": "@property\ndef train_draw(self): return None"}, ()),
    ("helper lost", {"TRAIN": "import nowhere_helper"}, ("nowhere_helper", "in client_train")),
):
    method(f"training: {name}", filled(METHOD, **parts), *FAILED, *pieces, status=1)
bad("beside others", ("run", *QUICK, "--methods", "mine.py,local", "--set", "local.local.steps=1"), *FAILED, "0/1",
    status=1, mine__py=filled(METHOD, TRAIN="raise OSError('no')"))  # fmt: skip
bad("dry run", (*RUN, "mine.py", "--dry-run"), "mine fails in its first round", "OSError: no", "in client_train",
    mine__py=filled(METHOD, TRAIN="raise OSError('no')"))  # fmt: skip

# ---------------------------------------------------------------- data sets

DATA = ("run", *QUICK, "--methods", "local", "--dataset", "./mine.py")
for name, parts, pieces in (
    ("clients text", {"FIELD": "clients = 'ten'"}, ("clients 'ten'", "clients = 10", "mine.py, line 11")),
    ("clients 0", {"FIELD": "clients = 0"}, ("clients 0", "clients = 10")),
    ("clients True", {"FIELD": "clients = True"}, ("clients True",)),
    ("no group a client", {"FIELD": "clients = None"}, ("has 0 clients", "--clients")),
    ("default_clients", {"FIELD": "clients = None", "MORE": "def default_clients(self, data): return 'x'"}, ("'x' clients",)),
    ("default_clients raises", {"FIELD": "clients = None", "MORE": "def default_clients(self, data): 1 / 0"},
     ("how many clients", "ZeroDivisionError", "in default_clients")),
    ("title", {"FIELD": "title = None"}, ("has no title",)),
    ("source", {"FIELD": "source = 3"}, ("source 3",)),
    ("network a number", {"FIELD": "network = 3"}, ("network 3",)),
    ("network unknown", {"FIELD": "network = 'lenett'"}, ("no network called 'lenett'", "'lenet'")),
    ("network missing file", {"FIELD": "network = 'net.py'"}, ("there is no network file", "net.py")),
    ("partition unknown", {"FIELD": "partition = 'clases'"}, ("no partition called 'clases'",)),
    ("partition a number", {"FIELD": "partition = 3"}, ("partition 3",)),
    ("partition group", {"FIELD": "partition = 'group'"}, ("needs natural groups",)),
    ("classes_per_client", {"FIELD": "classes_per_client = 0"}, ("classes_per_client 0",)),
    ("validation_rows", {"FIELD": "validation_rows = -1"}, ("validation_rows -1",)),
    ("cached", {"FIELD": "cached = 'no'"}, ("cached 'no'",)),
    ("init raises", {"MORE": "def __init__(self): raise OSError('no')"}, ("OSError: no", "in __init__")),
    ("signature", {"MORE": "def load(self): return None"}, ("TypeError", "load()")),
    ("None", {"LOAD": "return None"}, ("mine.py", "`load` returns a NoneType", "fedbench.dataset.Data")),
    ("tuple", {"LOAD": "return images, labels"}, ("`load` returns a tuple",)),
    ("raises", {"LOAD": "raise OSError('no disk')"}, ("OSError: no disk", "mine.py, line 16, in load")),
    ("exits", {"LOAD": "raise SystemExit(0)"}, ("sys.exit(0)", "line 16, in load")),
    ("keyword", {"LOAD": "return Data(images=images, label=labels)"}, ("TypeError", "label", "line 16, in load")),
    ("numpy", {"LOAD": "images = images.numpy()"}, ("images must be a torch tensor, not a ndarray", "from_numpy")),
    ("numpy labels", {"LOAD": "labels = labels.numpy()"}, ("labels must be a torch tensor",)),
    ("list of labels", {"LOAD": "labels = labels.tolist()"}, ("labels must be a torch tensor, not a list",)),
    ("floats", {"LOAD": "images = images / 255"}, ("images must be uint8", "torch.float32")),
    ("flat", {"LOAD": "images = images.flatten(1)"}, ("images must be uint8 [M, c, h, w]", "[400, 64]")),
    ("int32 labels", {"LOAD": "labels = labels.int()"}, ("labels must be torch.int64",)),
    ("label range", {"LOAD": "labels = labels + 1"}, ("labels must be 0 .. 9, not 1 .. 10",)),
    ("few labels", {"LOAD": "labels = labels[1:]"}, ("labels must be torch.int64 [400]", "[399]")),
    ("no samples", {"LOAD": "images, labels = images[:0], labels[:0]"}, ("0 samples",)),
    *((f"{what}", {"LOAD": f"return Data(images=images, labels=labels, classes=10, **({{'mean': (0.5,), 'std': (0.3,)}} | {{{what}}}))"}, (piece, "mine.py, line 16, in load"))
      for what, piece in (
        ("'mean': 0.5", "mean must be a number for each channel"),
        ("'mean': None", "mean must be a number for each channel"),
        ("'mean': ('a',)", "mean must be a number for each channel"),
        ("'std': (0,)", "std must be positive and finite"),
        ("'std': (-1.0,)", "std must be positive and finite"),
        ("'std': (float('nan'),)", "std must be positive and finite"),
        ("'mean': (float('nan'),)", "mean must be finite"),
        ("'mean': (float('inf'),)", "mean must be finite"),
        ("'std': (0.3, 0.3)", "one value for each of 1 channels"),
        ("'test': [True] * 400", "test must be a torch tensor"),
        ("'test': torch.ones(400)", "test must be torch.bool"),
        ("'group': torch.zeros(400)", "group must be torch.int64"),
        ("'group': torch.arange(400) - 1", "group must be 0 .. "),
      )),
    ("classes a text", {"LOAD": "return Data(images=images, labels=labels, classes='10', mean=(0.5,), std=(0.3,))"},
     ("classes must be a whole number", "'10'")),
    ("all test rows", {"LOAD": "return Data(images=images, labels=labels, classes=10, mean=(0.5,), std=(0.3,), test=torch.ones(400).bool())"},
     ("validation_rows",)),
):  # fmt: skip
    bad(f"data set: {name}", DATA, *pieces, mine__py=filled(DATASET, **parts))
for text, pieces in (
    ("cifar11", ("no dataset called 'cifar11'", "Did you mean 'cifar10'?")),
    ("", ("no dataset called ''",)),
    ("nowhere.py", ("no data set file nowhere.py",)),
):
    bad(f"--dataset {text!r}", ("run", *QUICK, "--dataset", text), *pieces)
CIFAR = ("run", *QUICK, "--methods", "local", "--dataset", "cifar10", "--data-root")
bad("data missing", (*CIFAR, "there"), "there/cifar10.npz is missing", "--data-root", files={"there/x": ""})
bad("data no archive", (*CIFAR, "."), "cifar10.npz cannot be used", "damaged", cifar10__npz="text")
bad("data root a file", (*CIFAR, "file"), "file", file="x")

# ---------------------------------------------------------------- partitions

PART = ("run", *QUICK, "--methods", "local", "--partition")
for name, parts, pieces in (
    ("raises", {"SHARES": "raise OSError('no')"}, ("OSError: no", "mine.py, line 12, in shares")),
    ("exits", {"SHARES": "raise SystemExit(0)"}, ("sys.exit(0)", "in shares")),
    ("None", {"SHARES": "return None"}, ("`shares` must return an array [10, strata]", "NoneType")),
    ("list", {"SHARES": "return [[0.1] * 10] * 10"}, ("`shares` must return an array", "list")),
    ("shape", {"SHARES": "return np.zeros((3, 10))"}, ("`shares` must return", "[3, 10]")),
    ("few columns", {"SHARES": "return np.full((clients, 3), 0.1)"}, ("a column for each of the 10 strata", "3 columns")),
    ("NaN", {"SHARES": "return np.full((clients, 10), np.nan)"}, ("finite numbers",)),
    ("negative", {"SHARES": "return np.full((clients, 10), -0.1)"}, ("finite numbers of at least 0",)),
    ("too much", {"SHARES": "return np.full((clients, 10), 0.2)"}, ("columns that sum to 1 at most", "sum to 2")),
    ("nothing", {"SHARES": "return np.zeros((clients, 10))"}, ("client 0 of 10 would hold 0",)),
    ("texts", {"SHARES": "return np.full((clients, 10), 'a')"}, ("an array [10, strata] of numbers",)),
    ("strata", {"MORE": "def strata(self, data): return np.zeros(3, int)"}, ("`strata` must return", "1797")),
    ("strata floats", {"MORE": "def strata(self, data): return np.zeros(1797)"}, ("whole numbers",)),
    ("counts", {"MORE": "def counts(self, shares, rows, split): return shares * 1e6"}, ("`counts` must return",)),
    ("too many", {"MORE": "def counts(self, shares, rows, split): return np.full(shares.shape, 10**6)"}, ("runs out of",)),
    ("least", {"MORE": "def least(self, split): return 10**6"}, ("must hold at least 1000000",)),
    ("post_init", {"MORE": "def __post_init__(self): raise OSError('no')"}, ("cannot be set up", "OSError: no")),
    ("refuses", {"MORE": "def __post_init__(self): raise ValueError('no such skew')"}, ("no such skew",)),
    ("required", {"FIELD": "way: str = Field(min_length=1)"}, ("way",)),
):  # fmt: skip
    bad(f"partition: {name}", (*PART, "./mine.py"), *pieces, mine__py=filled(PARTITION, **parts))
bad("partition: no pydantic", (*PART, "mine.py"), "lacks @pydantic.dataclasses.dataclass(frozen=True)",
    mine__py=filled(PARTITION).replace("@pydantic.dataclasses", "@__import__('dataclasses')"))  # fmt: skip
bad("partition: abstract", (*PART, "mine.py"), "does not define shares",
    mine__py=filled(PARTITION).replace("def shares", "def parts"))  # fmt: skip
for text, pieces in (
    ("", ("empty text",)),
    ("clases", ("Did you mean 'classes'?",)),
    ("classes:", ("cannot be read", "per_client")),
    ("classes:spare", ("'spare' cannot be read",)),
    ("classes:spare=", ("cannot be read",)),
    ("classes:spre=1", ("Did you mean 'spare'?",)),
    ("classes:spare=1,spare=2", ("spare is set twice",)),
    ("classes:spare=-1", ("spare = -1",)),
    ("classes:spare=1.5", ("spare = 1.5",)),
    ("classes:spare=99999999999", ("spare=99999999999", "more than makes sense")),
    ("classes:per_client=0", ("per_client = 0",)),
    ("classes:per_client=11", ("per_client = 11 is more than the 10 classes",)),
    ("classes:low=0.7", ("low = 0.7 must not be above high",)),
    ("classes:high=inf", ("high = inf",)),
    ("classes:seeding=mine", ("seeding = mine",)),
    ("dirichlet:alpha=0", ("alpha = 0",)),
    ("dirichlet:alpha=nan", ("alpha = nan",)),
    ("dirichlet:alpha=1e400", ("alpha = 1e400",)),
    ("dirichlet:alpha=a", ("alpha = a",)),
    ("dirichlet:min_rows=10000", ("must hold at least 10000",)),
    ("iid:alpha=1", ("it has none",)),
    ("group", ("needs natural groups",)),
    ("nowhere.py", ("no partition file nowhere.py",)),
    (":spare=1", ("no partition called ''",)),
):
    bad(f"--partition {text!r}", (*PART, text), *pieces)
bad("a file's setting", (*PART, "mine.py:skew=inf"), "skew=inf", "finite", mine__py=filled(PARTITION))

# ---------------------------------------------------------------- networks

NET = ("run", *QUICK, "--methods", "local", "--network")
for name, parts, pieces in (
    ("None", {"MORE": "return None"}, ("returns a NoneType", "fedbench.models.Network")),
    ("raises", {"MORE": "raise OSError('no')"}, ("OSError: no", "mine.py, line 11, in network")),
    ("exits", {"MORE": "raise SystemExit(0)"}, ("sys.exit(0)", "in network")),
    ("no bias", {"MORE": "del shapes['fc1.bias']"}, ("'fc1.weight'", "LAYER.bias")),
    ("other names", {"MORE": "shapes['gain'] = (3,)"}, ("'gain'", "LAYER.weight")),
    ("no shapes", {"MORE": "shapes.clear()"}, ("has no parameters",)),
    ("shape of floats", {"MORE": "shapes['fc1.bias'] = (4.0,)"}, ("(4.0,)", "whole numbers")),
    ("head", {"MORE": "shapes['fc2.weight'] = (3, 4)"}, ("fc2", "[3, 4]", "10 classes")),
    ("logits raise", {"LOGITS": "raise OSError('no')"}, ("OSError: no", "in logits")),
    ("logits None", {"LOGITS": "return None"}, ("scores of 2 images are NoneType",)),
    ("logits flat", {"LOGITS": "return x.flatten()"}, ("scores of 2 images are [128]", "[2, 10]")),
    ("shapes do not fit", {"MORE": "shapes['fc1.weight'] = (4, 3)"}, ("RuntimeError", "mine.py")),
):
    bad(f"network: {name}", (*NET, "./mine.py"), *pieces, mine__py=filled(NETWORK, **parts))
bad("network: none", (*NET, "mine.py"), "must define a function `network(image, classes)`", mine__py="x = 1\n")
bad("network: signature", (*NET, "mine.py"), "TypeError", "network()", mine__py="def network(): pass\n")
for text, pieces in (
    ("", ("empty text",)),
    ("lenett", ("Did you mean 'lenet'?",)),
    ("lenet", ("images of 8 x 8 pixels are too small for the network lenet",)),
    ("mlp-digits*0", ("'mlp-digits*0' cannot be read",)),
    ("mlp-digits*", ("cannot be read",)),
    ("mlp-digits*9", ("are for 9 clients, and there are 10",)),
    ("mlp-digits*x", ("cannot be read",)),
    ("mlp-digits,mnist-mlp", ("has no number of clients",)),
    ("mlp-digits*5,mnist-mlp*6", ("are for 11 clients",)),
    (",", ("there is nothing before or after a comma",)),
    ("nowhere.py", ("no network file nowhere.py",)),
):
    bad(f"--network {text!r}", (*NET, text), *pieces)

# ---------------------------------------------------------------- options of run

for arguments, pieces in (
    (("--preset", "laptob"), ("Did you mean 'laptop'?",)),
    (("--preset", ""), ("no preset called ''",)),
    (("--device", "tpu"), ("no device called 'tpu'",)),
    (("--device", ""), ("no device called ''",)),
    (("--clients", "0"), ("--clients",)),
    (("--clients", "3000"), ("3000 clients",)),
    (("--clients", "ten"), ("--clients",)),
    (("--clients", "99999999999"), ("99999999999",)),
    (("--visits", "0"), ("--visits",)),
    (("--visits", "-1"), ("--visits",)),
    (("--visits", "1e3"), ("--visits",)),
    (("--visits", "1000000000000"), ("1000000000000",)),
    (("--evaluate-every", "0"), ("--evaluate-every",)),
    (("--seeds", "many"), ("--seeds many",)),
    (("--seeds", ""), ("at least one",)),
    (("--seeds", "1,1"), ("1,1", "different numbers")),
    (("--seeds", "-1"), ("-1",)),
    (("--seeds", "1.5"), ("1.5",)),
    (("--seed-count", "0"), ("--seed-count",)),
    (("--seed-count", "3000000"), ("--seed-count",)),
    (("--novel-clients", "10"), ("leave none to train on",)),
    (("--novel-clients", "-1"), ("--novel-clients",)),
    (("--adapt-visits", "3"), ("--novel-clients",)),
    (("--novel-clients", "1", "--adapt-visits", "1000000000000"), ("1000000000000",)),
    (("--jobs", "0"), ("--jobs",)),
    (("--checkpoint-every", "-1"), ("--checkpoint-every",)),
    (("--checkpoint-every", "nan"), ("--checkpoint-every",)),
    (("--no-such-option",), ("--no-such-option",)),
    (("--results", ""), ("--results", "empty")),
    (("--results", "/proc/results"), ("cannot be written",)),
    (("--results", "x" * 300), ("too long",)),
    (("--results", "x/" * 3000), ("too long",)),
    (("--results", "~no-such-user/x"), ("~no-such-user",)),
    (("--results", "a\0b"), ("null",)),
    (("--data-root", ""), ("--data-root", "empty")),
    (("--data-root", "~no-such-user/x"), ("~no-such-user",)),
    *((("--set", text), pieces) for text, pieces in (
        ("", ("METHOD.FIELD=VALUE",)),
        ("pfedhn", ("METHOD.FIELD=VALUE",)),
        ("pfedhn.lr", ("METHOD.FIELD=VALUE",)),
        ("=1", ("METHOD.FIELD=VALUE",)),
        (".=1", ("no method", "''")),
        ("pfedhn.local.rl=1", ("Did you mean 'local.lr'?",)),
        ("pfedhn.local=1", ("no hyperparameter of pfedhn called 'local'",)),
        ("pfedhn.local.lr=", ("pfedhn.local.lr=",)),
        ("pfedhn.local.lr=fast", ("pfedhn.local.lr=fast",)),
        ("pfedhn.local.lr=-1", ("greater than 0",)),
        ("pfedhn.local.lr=inf", ("pfedhn.local.lr=inf", "finite")),
        ("pfedhn.local.lr=1e400", ("pfedhn.local.lr=inf", "finite")),
        ("pfedhn.local.lr=nan", ("pfedhn.local.lr=nan",)),
        ("pfedhn.local.lr=none", ("pfedhn.local.lr=None",)),
        ("pfedhn.local.steps=1.5", ("pfedhn.local.steps=1.5",)),
        ("pfedhn.local.steps=99999999999", ("99999999999", "more than makes sense")),
        ("pfedhn.hypernetwork.hidden_layers=99999", ("99999", "more than makes sense")),
        ("pfedhn.local.momentum=1", ("less than 1",)),
        ("fedper.personal_layers=99", ("personal_layers = 99 is more than the network's 2 layers",)),
        ("lg-fedavg.global_layers=99", ("global_layers = 99 is more than the network's 2 layers",)),
        ("per-fedavg.variant=newton", ("newton",)),
        ("scaffold.lr=1", ("no method in this comparison called 'scaffold'",)),
        ("all.nothing=1", ("nothing",)),
    )),
    (("--set", "fedavg.local.lr=1", "--set", "FedAvg.local.lr=2"), ("fedavg.local.lr is set twice",)),
):  # fmt: skip
    bad(f"run {' '.join(arguments)[:50]!r}", ("run", *QUICK, *arguments), *pieces)
bad("results a file", ("run", *QUICK, "--methods", "local", "--results", "file"), "file", "cannot be written", file="x")
bad("results in a file", ("run", *QUICK, "--methods", "local", "--results", "file/x"), "file", "written", file="x")
bad("results of a data set", ("run", *QUICK, "--methods", "local"), "results/digits", "cannot be written",
    files={"results/digits": "a file where a folder must be"})  # fmt: skip
bad("results of a method", ("run", *QUICK, "--methods", "local"), "results/digits/local", "cannot be written",
    files={"results/digits/local": "a file where a folder must be"})  # fmt: skip
for name, text in (("notes", "dear diary\n"), ("another tool's", '[project]\nname = "mine"\n')):
    bad(f"--write-config over {name}", ("run", *QUICK, "--dry-run", "--write-config", "w.toml"), "w.toml",
        "not overwritten", w__toml=text)  # fmt: skip
bad("--out a file", ("reproduce", "linear-theory", "--preset", "smoke", "--out", "file"), "file is no folder", file="x")
for name in ("steps_per_visit", "gradients_per_visit", "gradients_to_personalize"):
    for value in ("15.0", "np.int64(15)", "2.5", "-1", "True"):
        method(f"{name} of {value}", filled(METHOD, TOP="import numpy as np",
               MORE=f"@property\ndef {name}(self): return {value}"), f"its {name} is", "whole number of at least 0")  # fmt: skip
bad("results a link to itself", ("run", *QUICK, "--methods", "local", "--results", "loop"), "loop", loop="-> loop")

# ---------------------------------------------------------------- other commands

for arguments, pieces in (
    (("nothing",), ("nothing",)),
    (("list", "methods", "pfednh"), ("Did you mean 'pfedhn'?",)),
    (("list", "datasets", "digit"), ("Did you mean 'digits'?",)),
    (("list", "partitions", "dirichle"), ("Did you mean 'dirichlet'?",)),
    (("list", "networks", "lenett"), ("Did you mean 'lenet'?",)),
    (("list", "experiments", "table9"), ("table9",)),
    (("list", "experiments", "--preset", "papr"), ("called 'papr'", "paper")),
    (("list", "methods", "nowhere.py"), ("no method file nowhere.py",)),
    (("check",), ("NAME_OR_FILE",)),
    (("check", "fedavgg"), ("no plug-in called 'fedavgg'", "'fedavg'")),
    (("check", "nowhere.py"), ("no plug-in file nowhere.py",)),
    (("verify", "nowhere.json"), ("nowhere.json",)),
    (("verify", "."), (". is a folder, and one result is wanted",)),
    (("verify", "~no-such-user/x.json"), ("~no-such-user",)),
    (("show", "x" * 300), ("too long",)),
    (("reproduce", "~no-such-user/x.toml"), ("~no-such-user",)),
    (("reproduce", "x" * 300 + ".toml"), ("too long",)),
    (("report", "nowhere"), ("nowhere",)),
    (("report", ""), ("empty",)),
    (("report", "--out", ""), ("--out", "empty")),
    (("report", "--at", ""), ("--at names no number",)),
    (("report", "--targets", " , "), ("--targets names no number",)),
    (("new", "experiment", "Table1"), ("table1 is an experiment of the package",)),
    (("reproduce", "tabel1"), ("tabel1",)),
    (("reproduce", "nowhere.toml"), ("nowhere.toml",)),
    (("reproduce", "table1", "--preset", "laptob"), ("laptob",)),
    (("partition", "--clients", "0"), ("--clients",)),
    (("partition", "--clients", "3000"), ("3000 clients",)),
    (("partition", "--seed", "-1"), ("--seed",)),
    (("partition", "--partition", ""), ("empty text",)),
    (("partition", "--dataset", "digit"), ("Did you mean 'digits'?",)),
    (("partition", "--picture", "shares.doc"), ("shares.doc", "png")),
    (("partition", "--picture", "nowhere/shares.png"), ("nowhere/shares.png",)),
    (("partition", "--picture", ""), ("empty",)),
    (("new", "method", ""), ("'' is no name for a method",)),
    (("new", "method", "a/b"), ("'a/b' is no name",)),
    (("new", "method", "../a"), ("'../a' is no name",)),
    (("new", "method", "1st"), ("'1st' is no name",)),
    (("new", "method", "x" * 61), ("up to 60",)),
    (("new", "method", "é"), ("is no name",)),
    (("new", "method", "fedavg"), ("'fedavg' already",)),
    (("new", "method", "all"), ("'all' already",)),
    (("new", "method", "torch"), ("hide Python's module 'torch'", "my-torch")),
    (("new", "method", "import--"), ("is no name",)),
    (("new", "method", "random"), ("hide Python's module 'random'",)),
    (("new", "dataset", "digits"), ("'digits' already",)),
    (("new", "partition", "iid"), ("'iid' already",)),
    (("new", "network", "lenet"), ("'lenet' already",)),
    (("new", "network", "lenet-16"), ("'lenet-16' already",)),
    (("new", "nothing", "x"), ("nothing",)),
    (("new", "method", "mine", "--folder", ""), ("--folder", "empty")),
    (("new", "method", "mine", "--folder", "/proc/x"), ("/proc/x cannot be written",)),
):
    bad(f"{' '.join(arguments)[:50]!r}", arguments, *pieces)
bad("new over a file", ("new", "method", "mine"), "mine.py is there already", mine__py="work of weeks")
bad("new in a file", ("new", "method", "mine", "--folder", "file"), "file", "cannot be written", file="x")
bad("verify no result", ("verify", "x.json"), "x.json is not a fedbench result", x__json="{}")
bad("verify no JSON", ("verify", "x.json"), "x.json is not a fedbench result", x__json="text")
bad("report without results", ("report", "here"), "here", files={"here/x": ""})
bad("reproduce no TOML", ("reproduce", "x.toml"), "x.toml", x__toml="= 1")
bad("check no plug-in", ("check", "x.py"), "x.py defines no plug-in", "fedbench new", x__py="y = 1\n")
bad("check exits", ("check", "x.py"), "it calls sys.exit(0)", x__py="import sys\nsys.exit(0)\n")
bad("check exits in a call", ("check", "mine.py"), "sys.exit(0)", "checks failed", status=1,
    mine__py=filled(METHOD, TRAIN="raise SystemExit(0)"))  # fmt: skip
bad("check a data set that exits", ("check", "mine.py"), "sys.exit(0)", "1 checks failed", status=1,
    mine__py=filled(DATASET, LOAD="raise SystemExit(0)"))  # fmt: skip
bad("check a partition that fails", ("check", "mine.py"), "OSError: no", "in shares", "1 checks failed", status=1,
    mine__py=filled(PARTITION, SHARES="raise OSError('no')"))  # fmt: skip
bad("check a network that fails", ("check", "mine.py"), "OSError: no", "in network", "1 checks failed", status=1,
    mine__py=filled(NETWORK, MORE="raise OSError('no')"))  # fmt: skip
bad("list a file that fails", ("list", "methods", "mine.py"), "mine.py, line 1", mine__py="1 / 0\n")
bad("list a file without defaults", ("list", "methods", "mine.py"), "mu of Mine has no default",
    mine__py=filled(METHOD, FIELD="mu: float"))  # fmt: skip


# ---------------------------------------------------------------- how a case is run


@pytest.fixture(scope="module", autouse=True)
def warm() -> Iterator[None]:
    """What children need is imported before they are forked, and the embedded data set is loaded."""
    import fedbench.check.kinds
    import fedbench.check.networks
    import fedbench.check.partitions
    import fedbench.reporting.compose
    import fedbench.runs.estimate
    import fedbench.runs.plan
    import fedbench.runs.pool
    import fedbench.runs.verify  # noqa: F401

    for name in plugins.names("method"):
        plugins.find_method(name)
    load_data("digits", data_root(None))
    gc.collect()
    gc.freeze()  # what is there is not looked through in every child, whose memory it would copy
    yield
    gc.unfreeze()


def child(case: Case, folder: Path) -> tuple[int, str]:
    """Exit status and all that the command line prints for `case`, in a forked process."""
    printed = folder.with_suffix(".printed")
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            signal.alarm(SECONDS)
            os.chdir(folder)
            os.environ.update(COLUMNS="300", TERMINAL_WIDTH="300")
            descriptor = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
            sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
            sys.argv = ["fedbench", *case.arguments]
            out.width = err.width = 300
            try:
                cli.main()
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
            except BaseException:
                traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
            os._exit(status)
    _, waited = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(waited), printed.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_answered(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    status, text = child(case, folder)
    assert status == case.status, text
    assert "Traceback" not in text
    words = " ".join(text.replace("│", " ").split())
    for piece in case.pieces:
        assert piece in words, text
    sentences = [line for line in text.splitlines() if line.startswith("fedbench: ")]
    usage = "Usage:" in text  # of options, answered by the library that reads them
    if case.status == 2:
        assert usage or len(sentences) == 1, text
        assert usage or text.splitlines()[-1] == sentences[0], text  # one line, and nothing behind it
        after = {path.relative_to(folder) for path in folder.rglob("*")}
        left = {path for path in after - before if not path.name.endswith(".lock")}
        assert left <= {Path("results"), Path("results/.work")}, left  # nothing half-written


def test_the_corpus_is_large() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 150


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    """Arrays of a wrong form in a data file: which array, what it is, and what it must be."""
    folder = tmp_path / "here"
    folder.mkdir()
    np.savez(folder / "mnist.npz", x_train=np.zeros((2, 3), np.uint8), y_train=np.zeros(2, int))
    arguments = ("run", *QUICK, "--methods", "local", "--dataset", "mnist", "--data-root", ".")
    status, text = child(Case("", {}, arguments, ()), folder)
    assert status == 2
    assert "mnist.npz cannot be used" in text
    assert "Traceback" not in text
