"""Linear models under a linear hypernetwork: what it can reach at every rank, beside what the theorem says.

Client i has X_i [M, d] with X_i^T X_i = I and y_i [M]; its loss is L_i(t) = |X_i t - y_i|^2 = |t - t_i|^2 + c_i with
t_i the local solution and c_i = |y_i|^2 - |t_i|^2. A linear hypernetwork gives client i the model W v_i, W [d, k] and
v_i [k]. The least sum of losses is, with s_j the singular values of T = [t_1 ... t_N], sum_(j > k) s_j^2 + sum_i c_i:
W spans the first k left singular vectors of T, uncentred. Shamsian et al. 2021 speak of the principal components of the
local solutions; with the mean taken off first, the loss is another one, which is shown too.

Fitted here is the hypernetwork itself, on X and y and in turns: W by least squares over all clients, then every
client's v_i. Letters: N clients, M samples of a client, d coordinates, k rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedbench.experiments.rules import CellName
from fedbench.reporting.paper.material import Material, Part, entry
from fedbench.reporting.run import Floats
from fedbench.reporting.tables import Column, Entry, Table
from fedbench.storage.spec import seed_list

CLIENTS, SAMPLES, COORDINATES = 30, 24, 10
TURNS = 2000  # at most; a turn that changes the loss by less than CLOSE, relatively, is the last
CLOSE = 1e-15


@dataclass(frozen=True)
class Problem:
    """Linear regression on clients: `x` [N, M, d] with orthonormal columns, `y` [N, M]."""

    x: Floats
    y: Floats

    @property
    def solutions(self) -> Floats:
        """T, [d, N]: the local least squares solutions."""
        return np.asarray(np.einsum("nmd,nm->dn", self.x, self.y))

    def loss(self, models: Floats) -> float:
        """Sum over clients of the squared errors of models [d, N]."""
        return float(((np.einsum("nmd,dn->nm", self.x, models) - self.y) ** 2).sum())


def problem(seed: int) -> Problem:
    """Solutions about a common mean, noise outside the span of the regressors' columns included."""
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((CLIENTS, SAMPLES, COORDINATES)))[0]
    scales = 0.75 ** np.arange(COORDINATES)
    solutions = 1 + rng.standard_normal((CLIENTS, COORDINATES)) * scales
    return Problem(x, np.einsum("nmd,nd->nm", x, solutions) + 0.3 * rng.standard_normal((CLIENTS, SAMPLES)))


def theorem(made: Problem) -> Floats:
    """The least loss at every rank 1 .. d, from the singular values of the local solutions, [d]."""
    t = made.solutions
    squares = np.linalg.svd(t, compute_uv=False) ** 2
    rest = float((made.y**2).sum() - (t**2).sum())
    return np.asarray(squares.sum() - squares.cumsum() + rest)


def centred(made: Problem) -> Floats:
    """The loss at every rank 1 .. d of mean-centred principal components: the mean and k directions, [d]."""
    t = made.solutions
    squares = np.linalg.svd(t - t.mean(axis=1, keepdims=True), compute_uv=False) ** 2
    rest = float((made.y**2).sum() - (t**2).sum())
    return np.asarray(squares.sum() - squares.cumsum() + rest)


def fit(made: Problem, rank: int, seed: int = 0) -> float:
    """The loss of a linear hypernetwork with embeddings of size `rank`, fitted in turns from a random start."""
    x, y = made.x, made.y
    clients, _, d = x.shape
    v = np.random.default_rng(seed).standard_normal((clients, rank))
    last = np.inf
    for _ in range(TURNS):
        # sum_i |X_i W v_i - y_i|^2 in the entries of W: normal equations with X_i^T X_i in them, orthonormal or not
        gram = np.einsum("nma,nmb->nab", x, x)
        left = np.einsum("nab,nk,nl->akbl", gram, v, v).reshape(d * rank, d * rank)
        right = np.einsum("nma,nm,nk->ak", x, y, v).ravel()
        w = np.linalg.lstsq(left, right, rcond=None)[0].reshape(d, rank)
        w = np.linalg.qr(w)[
            0
        ]  # another basis of the same span: only the span matters, and this one is well conditioned
        features = x @ w  # [N, M, k]
        v = np.stack([np.linalg.lstsq(f, target, rcond=None)[0] for f, target in zip(features, y, strict=True)])
        loss = made.loss(w @ v.T)
        if last - loss <= CLOSE * loss:
            break
        last = loss
    return loss


def part(material: Material) -> Part:
    """The table, the figure, and the losses summed over ranks."""
    from matplotlib import rc_context
    from matplotlib.ticker import MaxNLocator

    from fedbench.reporting.figures import LOOK, new_figure, save_picture

    count = material.plan.experiment.length(material.plan.preset).seeds
    ranks = range(1, COORDINATES + 1)
    fitted: dict[int, Floats] = {}
    exact: dict[int, Floats] = {}
    mean_off: dict[int, Floats] = {}
    for seed in seed_list(count):
        made = problem(seed)
        fitted[seed] = np.array([fit(made, rank, seed) for rank in ranks])
        exact[seed], mean_off[seed] = theorem(made), centred(made)
    shown = {"fitted": fitted, "theorem": exact, "centred": mean_off}
    rows = []
    for place, rank in enumerate(ranks):
        row = [entry({seed: each[seed][place] for seed in each}, count) for each in shown.values()]
        worst = max(abs(fitted[seed][place] - exact[seed][place]) for seed in fitted)
        rows.append((str(rank), [*row, Entry(float(worst))]))
    table = Table(
        name="linear-theory",
        title="Loss of a linear hypernetwork, by the size of the embedding",
        caption=f"Sum of squared errors over {CLIENTS} clients, mean ± standard deviation over {count} drawn problems "
        f"with {COORDINATES} coordinates; beside it the theorem's value, from the singular values of the local "
        "solutions, and the greatest difference of the two.",
        columns=[
            Column("fitted hypernetwork", 4, marked=False),
            Column("uncentred SVD (theorem)", 4, marked=False),
            Column("mean-centred components", 4, marked=False),
            Column("greatest difference", 2, marked=False, significant=True),
        ],
        rows=rows,
        corner="rank k",
    )
    seed = seed_list(1)[0]
    with rc_context(LOOK):
        figure, (axes,) = new_figure(2.4)
        axes.plot(ranks, mean_off[seed], "--", color="#999999", label="mean-centred components")
        axes.plot(ranks, exact[seed], "-", color="#0072B2", label="uncentred SVD (theorem)")
        axes.plot(ranks, fitted[seed], "o", color="#D55E00", mfc="none", ms=5, label="fitted hypernetwork")
        axes.set_xlabel("size of the embedding, k")
        axes.set_ylabel("sum of squared errors")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=7, frameon=False)
        picture = save_picture(
            figure,
            "linear-theory",
            "A linear hypernetwork is a truncated SVD",
            f"Loss against the size of the embedding, first of {count} problems. The fitted hypernetwork lies on the "
            "theorem's line at every rank; components of mean-centred solutions, which also have the mean, do not.",
            [{"rank": rank, **{key: each[seed][i] for key, each in shown.items()}} for i, rank in enumerate(ranks)],
        )
    values = {
        CellName(name, "", ""): {seed: float(losses.sum()) for seed, losses in each.items()}
        for name, each in shown.items()
    }
    return Part(tables=[table], pictures=[picture], values=values)
