"""Run the spec of a stored result again, and say whether the numbers are the same, or where they first differ."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbench import plugins, storage
from fedbench.dataset import data_root
from fedbench.errors import BadInput, canonical
from fedbench.plugins.finding import WORDS
from fedbench.runs.job import Job, work
from fedbench.storage import Result, Spec
from fedbench.storage.schema import LATER

PARTS = ("partition", "history", "earlier", "best", "unseen")  # of a result, in the order in which numbers arise
UNSIGNED = "depends_on_length"  # what the digest does not cover, and reports cut by; files of format 1 do not tell it


@dataclass(frozen=True)
class Verdict:
    """What came of running a result again. `place` is where the numbers first differ, e.g. `history.3.val_loss`."""

    equal: bool
    place: str = ""
    stored: Any = None
    found: Any = None
    notes: tuple[str, ...] = ()  # what else is not as it was: the source, versions
    processors: tuple[str, str] | None = None  # then and now, where they do not compute alike

    def __str__(self) -> str:
        if self.equal:
            text = "equal: the stored numbers come out again, bit for bit"
        elif self.processors:
            was, is_ = self.processors
            text = (
                f"not to be decided here: it was computed by {was} then and by {is_} now, which do not add in the same "
                f"order ({self.place} is {self.found} and was {self.stored}); verify it on the former"
            )
        else:
            text = f"different: {self.place} is {self.found} and was {self.stored}"
        return "; ".join([text, *self.notes])


def first_difference(stored: Any, found: Any, place: str = "") -> tuple[str, Any, Any] | None:
    """Where two results first differ, times aside: the dotted place and both values; None where they are equal.

    What a stored result of format 1 does not say is not compared.
    """
    if isinstance(stored, dict) and isinstance(found, dict):
        for key in [*stored, *(key for key in found if key not in stored)]:
            if key in LATER and stored.get(key) is None:
                continue
            inside = first_difference(stored.get(key), found.get(key), f"{place}.{key}".lstrip("."))
            if inside and key != "seconds":
                return inside
        return None
    if isinstance(stored, list) and isinstance(found, list):
        for i, (a, b) in enumerate(zip(stored, found, strict=False)):
            inside = first_difference(a, b, f"{place}.{i}")
            if inside:
                return inside
        return None if len(stored) == len(found) else (f"the length of {place}", len(stored), len(found))
    not_a_number = stored != stored and found != found  # which is what both losses are where training diverged
    return None if stored == found or not_a_number else (place, stored, found)


def plugins_of(spec: Spec) -> dict[str, list[str]]:
    """The names of the plug-ins that a run is made of, by kind."""
    networks = [item.rpartition("*")[0] or item for item in spec.network.removesuffix(":shuffled").split(",")]
    dealt = spec.partition.partition(":")[0]
    return {"method": [spec.method], "dataset": [spec.dataset], "partition": [dealt], "network": networks}


def verify(
    path: Path,
    *,
    method: str | None = None,
    dataset: str | None = None,
    partition: str | None = None,
    networks: Sequence[str] = (),
    data_folder: Path | None = None,
) -> Verdict:
    """Run the spec of the result at `path` again and compare.

    `method`, `dataset`, `partition` and `networks` are the files of plug-ins that are not found by name; `data_folder`
    is where data sets lie. Raises BadInput for a file that is no result, and for a result that cannot be made here.
    """
    stored = storage.read(path)
    spec = stored.spec
    dealt, colon, settings = spec.partition.partition(":")
    called = plugins_of(spec)
    used = called["network"]
    for kind, text in (
        ("method", method),
        ("dataset", dataset),
        ("partition", partition),
        *(("network", text) for text in networks),
    ):
        names = called[kind]
        if text is not None and canonical(text if not text.endswith(".py") else Path(text).stem) not in names:
            raise BadInput(f"{path} is a run of the {WORDS[kind]} {', '.join(names)}, and {text} is another one")
    plugin = _found("method", method or spec.method)
    data = _found("dataset", dataset or spec.dataset)
    if partition is None and _file_of(data.cls.partition.partition(":")[0]) == dealt:
        partition = plugins.partition_plugin(None, data.cls).where  # the data set's own, a file beside it
    if _file_of(data.cls.network) in used:
        networks = [*networks, data.cls.network]
    files = [plugins.find_network(text) for text in networks]
    with tempfile.TemporaryDirectory(prefix="fedbench-verify-") as folder:
        again = Job(
            spec=spec,
            method=plugin.where,
            dataset=data.where,
            data_root=data_root(data_folder),
            results=Path(folder),
            checkpoint_every=float("inf"),
            device=spec.device,
            partition="" if partition is None else f"{plugins.find_partition(partition).where}{colon}{settings}",
            networks=tuple({file.name: file.where for file in files}.items()),
        )
        outcome = work(again, Path(folder) / "stop", os.getpid(), wait=True)
        if outcome.ending != "done":
            raise BadInput(f"{path} cannot be made again: {outcome.message}")
        found = storage.read(storage.result_path(again.results, spec))
    parts = [*PARTS, UNSIGNED] if stored.format > 1 else PARTS
    was, is_ = ({part: result.model_dump(mode="json")[part] for part in parts} for result in (stored, found))
    difference = first_difference(was, is_)
    if difference is None:
        return Verdict(True, notes=_notes(stored, found))
    place, before, after = difference
    processors = _processors(stored, found)
    notes = _notes(stored, found)
    if processors:
        notes = (*notes, _furthest(stored, found))
    return Verdict(False, place, before, after, notes, processors)


def _processors(stored: Result, found: Result) -> tuple[str, str] | None:
    """The processors then and now, where they do not compute alike; None where they do, as far as results say.

    Older results do not say what came of a small computation: then another make of processor is another one.
    """
    was, is_ = (result.provenance.get("host") for result in (stored, found))
    if not isinstance(was, dict) or not isinstance(is_, dict) or not was.get("instruction_set"):
        return None
    alike = "arithmetic" if was.get("arithmetic") else "processor"
    if all(was.get(fact) == is_.get(fact) for fact in ("instruction_set", alike)):
        return None
    return _processor(was), _processor(is_)


def _processor(host: dict[str, Any]) -> str:
    sums = f", whose small sums are {host['arithmetic']}" if host.get("arithmetic") else ""
    return f"{host.get('processor', 'a processor')} with {host['instruction_set']}{sums}"


def _found(kind: str, text: str) -> plugins.Plugin:
    try:
        return plugins.find(kind, text)
    except BadInput as error:
        hint = "" if text.endswith(".py") else f"; where it is a file, name it with --{kind}"
        raise BadInput(f"{error}{hint}") from None


def _file_of(text: str) -> str:
    """The name of the plug-in that a file holds; empty for what is no file."""
    return canonical(Path(text).stem) if text.endswith(".py") else ""


def _notes(stored: Result, found: Result) -> tuple[str, ...]:
    """What is not as it was when the result was stored."""
    notes = [] if stored.code == found.code else ["the method's source is not that of the stored run"]
    if stored.dataset_code not in (found.dataset_code, None):
        notes.append("the data set's source is not that of the stored run")
    if stored.samples not in (found.samples, None):
        notes.append("the samples are not those of the stored run")
    changed = [name for name, code in found.codes.items() if code != stored.codes.get(name)]
    notes += [f"the source of {name} is not that of the stored run" for name in changed]
    was, is_ = (result.provenance.get("software") for result in (stored, found))
    if isinstance(was, dict) and isinstance(is_, dict):
        notes += [f"{name} is {is_[name]} and was {was.get(name)}" for name in is_ if is_[name] != was.get(name)]
    return tuple(notes)


def _furthest(stored: Result, found: Result) -> str:
    """How far the accuracies of then and now are apart."""
    pairs = zip(stored.best.client_accuracy, found.best.client_accuracy, strict=True)
    client, pooled = max(abs(a - b) for a, b in pairs), abs(stored.best.accuracy - found.best.accuracy)
    return (
        f"the largest difference in a client's test accuracy is {100 * client:.1f} points, in pooled test accuracy "
        f"{100 * pooled:.2f}"
    )
