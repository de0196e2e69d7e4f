"""Do embeddings find groups of clients? A picture of the learned vectors, and numbers in the space that they live in.

The partition says which group a client belongs to. Purity is the share of a client's k nearest neighbours that are of
its group, with k the others of its group (one less than the clients of the smallest group); silhouette is the mean
silhouette of scikit-learn. Both are compared with what they are when groups are dealt to the same embeddings at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedbench.errors import BadInput
from fedbench.experiments.rules import CellName
from fedbench.partition import Ints
from fedbench.reporting.figures import Picture
from fedbench.reporting.paper.material import Material, Part, Stored, entry, problem_table
from fedbench.reporting.run import Floats
from fedbench.reporting.tables import Column, Table
from fedbench.storage import read_models

PERMUTATIONS = 1000
PERPLEXITY = 30.0  # of t-SNE, at most; that of the paper is not known


@dataclass(frozen=True)
class Grouping:
    """How well embeddings [N, k] agree with groups [N]; shares of 1."""

    purity: float
    silhouette: float
    permuted_purity: float  # mean over permutations
    permuted_silhouette: float
    p_purity: float  # share of permutations that do as well, one added to both counts
    p_silhouette: float


def grouping(embeddings: Floats, groups: Ints, permutations: int = PERMUTATIONS) -> Grouping:
    """Purity and silhouette, and the same for groups dealt at random, by a fixed seed.

    Raises BadInput where some group has one client only, or there is only one group, and for embeddings that are no
    numbers.
    """
    from sklearn.metrics import silhouette_score

    if not np.isfinite(embeddings).all():
        raise BadInput("the embeddings are no numbers: training diverged; use a smaller rate")
    _, counts = np.unique(groups, return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        raise BadInput("embeddings are compared by group where there are at least two groups of at least two clients")
    apart = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, : counts.min() - 1]
    np.fill_diagonal(apart, 0.0)

    def numbers(labels: Ints) -> tuple[float, float]:
        return float((labels[nearest] == labels[:, None]).mean()), float(
            silhouette_score(apart, labels, metric="precomputed")
        )

    purity, silhouette = numbers(groups)
    rng = np.random.default_rng(0)
    dealt = np.array([numbers(rng.permutation(groups)) for _ in range(permutations)])
    as_good = (1 + (dealt >= (purity, silhouette)).sum(axis=0)) / (1 + permutations)
    return Grouping(purity, silhouette, *dealt.mean(axis=0).tolist(), *as_good.tolist())


def groups_of(stored: Stored, material: Material) -> tuple[Ints, list[str]]:
    """The group of every trained client, [N], and names of the groups. Raises BadInput where there are none."""
    from fedbench import plugins
    from fedbench.partitions import Coarse

    spec = stored.result.spec
    kind = plugins.parse_partition(stored.job.partition or spec.partition, plugins.find_dataset(stored.job.dataset).cls)
    if not isinstance(kind, Coarse):
        raise BadInput(f"the partition {kind} has no groups of clients: use coarse")
    data = material.data(stored)
    of_class = kind.class_groups(data)
    names = [" ".join(map(str, np.flatnonzero(of_class == g))) for g in range(int(of_class.max()) + 1)]
    if not kind.size and data.group_names:
        names = list(data.group_names)
    return kind.client_groups(data, spec.clients)[: spec.clients - spec.novel_clients], names


def part(material: Material) -> Part:
    """For each column and method a picture of the first seed; for each column a table over all seeds."""
    made, problems = Part(), []
    count = material.plan.experiment.length(material.plan.preset).seeds
    for column in material.columns:
        rows = []
        for method in material.methods:
            found: dict[int, Grouping] = {}
            for each in material.stored.get((column.name, method), ()):
                try:
                    vectors = read_models(each.path, each.result)[1]
                    if vectors is None:
                        raise BadInput("its server has no embeddings of clients")
                    groups, names = groups_of(each, material)
                    found[each.seed] = grouping(_array(vectors), groups)
                except BadInput as error:
                    problems.append(f"{column.label}, {material.title(method)}, seed {each.seed}: {error}")
                    continue
                if len(found) == 1:
                    title = f"Embeddings of {material.title(method)}: {column.label}"
                    made.pictures.append(
                        _picture(f"{column.name}-{method}-embeddings", title, each.seed, _array(vectors), groups, names)
                    )
            if not found:
                continue
            for quantity, name in (
                ("purity", "purity"),
                ("purity-permuted", "permuted_purity"),
                ("silhouette", "silhouette"),
                ("silhouette-permuted", "permuted_silhouette"),
            ):
                by_seed = {seed: 100 * getattr(each, name) for seed, each in found.items()}
                made.values[CellName(quantity, method, column.name)] = by_seed
            shown = [("purity", 100), ("permuted_purity", 100), ("p_purity", 1)]
            shown += [("silhouette", 1), ("permuted_silhouette", 1), ("p_silhouette", 1)]
            rows.append(
                (
                    material.title(method),
                    [entry({s: scale * getattr(g, name) for s, g in found.items()}, count) for name, scale in shown],
                )
            )
        if rows:
            made.tables.append(_table(column.name, column.label, rows))
    if problems:
        made.tables.append(problem_table("embeddings-problems", "Embeddings by group", problems))
    return made


def _array(vectors: Tensor) -> Floats:
    return np.asarray(vectors.double().numpy())


def _table(name: str, label: str, rows) -> Table:  # type: ignore[no-untyped-def]
    return Table(
        name=f"{name}-embeddings",
        title=f"Embeddings by group: {label}",
        caption="In the space of the embeddings. Purity: share of the nearest neighbours that are of the client's own "
        f"group. Permuted: the mean where groups are dealt at random ({PERMUTATIONS} times); p: how often these do as "
        "well. Mean ± standard deviation over seeds.",
        columns=[
            Column("purity, %", 1, marked=False),
            Column("permuted, %", 1, marked=False),
            Column("p", 2, False, significant=True),
            Column("silhouette", 3, marked=False),
            Column("permuted", 3, marked=False),
            Column("p (silhouette)", 2, False, significant=True),
        ],
        rows=rows,
    )


def _picture(name: str, title: str, seed: int, vectors: Floats, groups: Ints, names: list[str]) -> Picture:
    from matplotlib import colormaps, rc_context
    from sklearn.manifold import TSNE

    from fedbench.reporting.figures import LOOK, new_figure, save_picture

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    components = min(2, vectors.shape[1])
    flat = TSNE(n_components=components, perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors)
    flat = np.column_stack([flat, np.zeros(len(flat))])[:, :2]
    count = len(names)
    colours = colormaps["tab10" if count <= 10 else "tab20"]
    few = count <= 10
    with rc_context({**LOOK, "axes.grid": False}):
        columns, size = (min(5, count), 7.0) if few else (2, 5.5)
        figure, (axes,) = new_figure(2.5 + 0.022 * size * -(-count // columns))
        for group, label in enumerate(names):
            mine = flat[groups == group]
            marker = "os^DvP"[(group if few else group // 4) % 6]
            axes.plot(mine[:, 0], mine[:, 1], marker, ms=4.5, mew=0.3, mec="white", color=colours(group), label=label)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
        look = {"fontsize": size, "frameon": False, "columnspacing": 1.0, "labelspacing": 0.3}
        figure.legend(loc="outside lower center", ncols=columns, **look)
        return save_picture(
            figure,
            name,
            title,
            f"t-SNE (perplexity {perplexity:.3g}) of the learned vectors of {len(vectors)} clients, seed {seed}; "
            "colour and marker: the client's group. Distances on the picture mean little; the numbers in the table are "
            "of the space itself.",
            [
                {"client": i, "group": names[group], "x": x, "y": y}
                for i, (group, (x, y)) in enumerate(zip(groups, flat, strict=True))
            ],
        )
