"""Are generated feature extractors personal? Every client's test rows through every other client's extractor.

Row i of the matrix is client i: its test rows, its head. Column j is the extractor generated for client j. Divided by
the diagonal, row i says what is left of client i's accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fedbench.errors import BadInput
from fedbench.experiments.rules import CellName
from fedbench.reporting.figures import Picture
from fedbench.reporting.paper.material import Material, Part, Stored, entry, problem_table
from fedbench.reporting.run import Floats
from fedbench.reporting.tables import Column, Table
from fedbench.storage import read_models

AT_ONCE = 500  # images in one forward pass


def matrix(stored: Stored, material: Material) -> tuple[Floats, list[set[int]]]:
    """Accuracy in % of client i's head on client j's extractor, [N, N], and the classes of every client.

    Raises BadInput where models or data are not there, and for clients of several networks.
    """
    from fedbench import plugins
    from fedbench.runs.prepare import make_network
    from fedbench.task import normalise

    result = stored.result
    partition, data = material.partition(stored), material.data(stored)
    models, _ = read_models(stored.path, stored.result)
    networks = plugins.parse_networks(result.spec.network, result.spec.clients, dict(stored.job.networks))
    if len(networks.distinct) > 1:
        raise BadInput("extractors of different networks do not fit the same heads: use one network for all clients")
    network = make_network(networks.distinct[0], data)
    if any(model.keys() != network.shapes.keys() for model in models.values()):
        raise BadInput(
            f"its models are not of the network {network.name} alone, whose extractor and head are exchanged"
        )
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.mean, data.std))
    ids = list(models)
    found = np.zeros((len(ids), len(ids)))
    for i in ids:
        rows = partition.test[i]
        images = [normalise(data.images[part], mean, std) for part in torch.split(rows, AT_ONCE)]
        for j in ids:
            mixed = mix(models[i], models[j], network.head)
            correct = 0
            for part, own in zip(images, torch.split(rows, AT_ONCE), strict=True):
                logits = network.logits(mixed, part)
                # a diverged model is right about nothing, as in training
                correct += int(((logits.argmax(1) == data.labels[own]) & logits.isfinite().all(1)).sum())
            found[i, j] = 100 * correct / len(rows)
    counts = partition.histogram(data.labels, data.classes)
    return found, [set(torch.nonzero(counts[i])[:, 0].tolist()) for i in ids]


def mix(own: Mapping[str, Tensor], other: Mapping[str, Tensor], head: tuple[str, ...]) -> dict[str, Tensor]:
    """The model with the head of `own` and everything else of `other`."""
    return {name: own[name] if name in head else other[name] for name in own}


def part(material: Material) -> Part:
    """For each column and method two heat maps of the first seed, and a table over all seeds."""
    made, problems = Part(), []
    count = material.plan.experiment.length(material.plan.preset).seeds
    for column in material.columns:
        for method in material.methods:
            numbers: dict[str, dict[int, float]] = {}
            for each in material.stored.get((column.name, method), ()):
                try:
                    found, classes = matrix(each, material)
                except BadInput as error:
                    problems.append(f"{column.label}, {material.title(method)}, seed {each.seed}: {error}")
                    continue
                if not numbers:
                    made.pictures += _pictures(f"{column.name}-{method}", column.label, each.seed, found)
                for name, value in summary(found, classes).items():
                    numbers.setdefault(name, {})[each.seed] = value
            for quantity in ("diagonal", "off-diagonal"):
                if quantity in numbers:
                    made.values[CellName(quantity, method, column.name)] = numbers[quantity]
            if numbers:
                made.tables.append(
                    Table(
                        name=f"{column.name}-{method}-extractors",
                        title=f"Heads on extractors of other clients: {material.title(method)}, {column.label}",
                        caption="Test accuracy in % of a client's head, mean over pairs of clients, by how many "
                        "classes the two share; mean ± standard deviation over seeds.",
                        columns=[Column("accuracy, %", marked=False), Column("of the diagonal, %", marked=False)],
                        rows=[
                            (
                                words,
                                [
                                    entry(numbers.get(key, {}), count),
                                    entry(_relative(numbers, key), count),
                                ],
                            )
                            for key, words in WORDS.items()
                            if key in numbers
                        ],
                        corner="extractor of",
                    )
                )
    if problems:
        made.tables.append(problem_table("extractors-problems", "Heads on extractors of other clients", problems))
    return made


WORDS = {
    "diagonal": "the client itself",
    "off-diagonal": "another client",
    "shared-0": "a client with no class in common",
    "shared-1": "a client with one class in common",
    "shared-all": "a client with the same classes",
    "best-other": "the other client that suits best",
}


def summary(found: Floats, classes: list[set[int]]) -> dict[str, float]:
    """Means over the pairs of clients of a matrix [N, N], by what the two have in common."""
    n = len(found)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    shared = {(i, j): len(classes[i] & classes[j]) for i, j in pairs}
    groups = {
        "off-diagonal": pairs,
        "shared-0": [pair for pair in pairs if shared[pair] == 0],
        "shared-1": [(i, j) for i, j in pairs if shared[i, j] == 1 < len(classes[i])],
        "shared-all": [(i, j) for i, j in pairs if classes[i] == classes[j]],
    }
    means = {name: float(np.mean([found[pair] for pair in group])) for name, group in groups.items() if group}
    if pairs:
        others = found + np.diag(np.full(n, -np.inf))
        means["best-other"] = float(others.max(axis=1).mean())
    return {"diagonal": float(np.mean(np.diag(found))), **means}


def _relative(numbers: Mapping[str, Mapping[int, float]], key: str) -> dict[int, float]:
    own = numbers["diagonal"]
    return {seed: 100 * value / own[seed] for seed, value in numbers[key].items() if own[seed] > 0}


def _pictures(name: str, label: str, seed: int, found: Floats) -> list[Picture]:
    diagonal = np.diag(found)[:, None]
    divided = np.divide(found, diagonal, out=np.full_like(found, np.nan), where=diagonal > 0)
    raw = f"Heads on extractors: {label}"
    relative = f"Heads on extractors, divided by the diagonal: {label}"
    top = max(1.0, float(np.nanmax(divided, initial=0.0)))
    return [
        _heat(f"{name}-raw", raw, seed, "test accuracy (%)", found, "{:.0f}", 100.0),
        _heat(f"{name}-divided", relative, seed, "accuracy over that of the diagonal", divided, "{:.2f}", top),
    ]


def _heat(name: str, title: str, seed: int, what: str, values: Floats, form: str, top: float) -> Picture:
    from matplotlib import rc_context

    from fedbench.reporting.figures import LOOK, new_figure, save_picture

    n = len(values)
    with rc_context({**LOOK, "axes.grid": False}):
        figure, (axes,) = new_figure(3.0)
        image = axes.imshow(values, cmap="viridis", vmin=0, vmax=top)
        ticks = range(n) if n <= 12 else range(0, n, max(1, n // 10))
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        axes.set_xlabel("extractor of client")
        axes.set_ylabel("head and test rows of client")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if n <= 12:
            for i in range(n):
                for j in range(n):
                    if np.isfinite(values[i, j]):
                        dark = values[i, j] < 0.6 * top
                        text = (
                            form.format(values[i, j]).replace("0.", ".", 1) if top < 10 else form.format(values[i, j])
                        )
                        axes.text(
                            j, i, text, ha="center", va="center", fontsize=5.5, color="white" if dark else "black"
                        )
        bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label(what)
        caption = f"Row: the client whose head and test rows are used; column: whose extractor; {what}, seed {seed}."
        data = [
            {"head of": i, "extractor of": j, what: value}
            for i, row in enumerate(values)
            for j, value in enumerate(row)
        ]
        return save_picture(figure, name, title, caption, data)
