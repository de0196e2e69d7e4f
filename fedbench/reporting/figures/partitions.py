"""Pictures of who holds which rows. They need the data and torch, which the rest of a report does without."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.errors import BadInput
from fedbench.reporting.figures.canvas import Picture
from fedbench.reporting.figures.clients import balance
from fedbench.reporting.run import Floats
from fedbench.reporting.settings import SettingResults

if TYPE_CHECKING:
    from fedbench.dataset import Data
    from fedbench.partitions import Partition
    from fedbench.runs.job import Job


def pictures(
    settings: Sequence[SettingResults],
    data_root: Path | None = None,
    download: bool = True,
    jobs: Mapping[str, Job] | None = None,
) -> tuple[list[Picture], list[str]]:
    """Who holds which classes, and accuracy against samples and label entropy; a sentence for each missing picture.

    Who holds what is drawn once for settings that are dealt alike. Without `download`, a data set that is not there is
    not fetched. `jobs`, by the identities of their runs, tell where data sets and partitions are that are files; others
    are found by name.
    """
    made: list[Picture] = []
    missing: list[str] = []
    drawn: set[tuple[str, str]] = set()  # columns of a sweep are dealt alike
    for setting in settings:
        if not setting.runs:
            continue
        try:
            data, partitions = _partitions(setting, data_root, download, jobs or {})
        except BadInput as error:
            missing.append(f"no picture of the partition of {setting.label}: {error}")
            continue
        seed, partition = next(iter(partitions.items()))
        dealt = setting.runs[0].spec.dataset, partition.checksum()
        made += [_who_holds_what(setting, seed, partition, data)] if dealt not in drawn else []
        drawn.add(dealt)
        trained = range(min(len(run.seen.client) for run in setting.runs))
        counts = {seed: _counts(each, data)[trained] for seed, each in partitions.items()}
        samples = {seed: table.sum(axis=1) for seed, table in counts.items()}
        found = balance(setting, samples, {seed: label_entropy(table) for seed, table in counts.items()})
        made += [found] if found else []
    return made, missing


def _partitions(
    setting: SettingResults, data_root: Path | None, download: bool, jobs: Mapping[str, Job]
) -> tuple[Data, dict[int, Partition]]:
    """The data of a setting, and its partition under every seed.

    Raises BadInput where the data are not there, or are other data than those of the runs.
    """
    from fedbench import plugins
    from fedbench.dataset import data_root as find_root
    from fedbench.runs.prepare import load_data, make_partition

    root = find_root(data_root)
    made: dict[int, Partition] = {}
    spec = setting.runs[0].spec
    job = jobs.get(spec.identity)
    dataset = job.dataset if job else spec.dataset
    kind = (job and job.partition) or spec.partition
    file = root / f"{spec.dataset}.npz"
    if plugins.find_dataset(dataset).cls.cached and not download and not file.exists():
        raise BadInput(f"{file} is not there")
    for run in setting.runs:
        if run.spec.seed not in made:
            made[run.spec.seed] = make_partition(dataset, root, kind, spec.clients, run.spec.seed)
        if made[run.spec.seed].checksum() != run.partition:
            raise BadInput("these data give another one than the runs had")
    return load_data(dataset, root), made


def _who_holds_what(setting: SettingResults, seed: int, partition: Partition, data: Data) -> Picture:
    from fedbench.partitions import picture

    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("png", "pdf"):
            path = Path(folder) / f"partition.{kind}"
            picture(partition, data, path)
            files[kind] = path.read_bytes()
    counts = _counts(partition, data).astype(int)
    rows = [",".join(map(str, [client, *row])) for client, row in enumerate(counts.tolist())]
    head = ",".join(["client", *(f"class {c}" for c in range(data.classes))])
    files["csv"] = "\n".join([head, *rows, ""]).encode()
    spec = setting.runs[0].spec
    caption = (
        f"Training rows of each client and class, seed {seed}, partition {spec.partition}. "
        "Settings that are dealt alike have one such picture."
    )
    return Picture(f"{setting.name}-partition", f"Who holds what: {setting.label}", caption, files)


def _counts(partition: Partition, data: Data) -> Floats:
    """Training rows of each client and class [N, classes]."""
    return np.asarray(partition.histogram(data.labels, data.classes).numpy(), dtype=float)


def label_entropy(counts: Floats) -> Floats:
    """The entropy of each client's labels in bits [N], from its rows of every class [N, classes]."""
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return np.asarray(-(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1))
