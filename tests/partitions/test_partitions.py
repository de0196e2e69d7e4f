"""Who holds which rows: against the numbers of the official runs, and by properties that hold for every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.dataset import Data, Dataset
from fedbench.errors import BadInput
from fedbench.partitions import (
    IID,
    SPLITS,
    Classes,
    Dirichlet,
    Group,
    Kind,
    Partition,
    apportion,
    picture,
    split,
    summary,
    table,
)
from fedbench.plugins import parse_partition


def make(classes: int, train: int, test: int | None = None, groups: int = 0) -> Data:
    """Labels only: `train` rows of each class, and `test` more that are the data set's own test rows."""
    each = train + (test or 0)
    labels = torch.arange(classes).repeat(each)
    rows = len(labels)
    return Data(
        images=torch.zeros(rows, 1, 1, 1, dtype=torch.uint8),
        labels=labels,
        classes=classes,
        mean=(0.0,),
        std=(1.0,),
        test=None if test is None else torch.arange(rows) >= classes * train,
        group=torch.arange(rows) // classes % groups if groups else None,
    )


CIFAR10, CIFAR100 = make(10, 5000, 1000), make(100, 500, 100)
DATA = {10: CIFAR10, 100: CIFAR100}
PER_CLIENT = {10: 2, 100: 10}


def rows_of(partition: Partition) -> dict[str, tuple[torch.Tensor, ...]]:
    return {name: getattr(partition, name) for name in SPLITS}


# ---------------------------------------------------------------- the numbers of the official runs


@pytest.mark.parametrize(
    ("classes", "clients", "spare", "totals"),
    [
        (10, 10, 0, (9990, 9990, 9990)),
        (10, 10, 1, (6664, 6689, 6671)),
        (10, 50, 0, (9951, 9948, 9947)),
        (10, 50, 1, (9025, 8999, 9041)),
        (10, 100, 0, (9899, 9898, 9898)),
        (10, 100, 1, (9461, 9455, 9420)),
        (100, 10, 0, (10000, 10000, 10000)),
        (100, 10, 1, (4961, 4899, 4921)),
        (100, 50, 0, (9750, 9756, 9761)),
        (100, 50, 1, (8076, 8083, 8080)),
        (100, 100, 0, (9520, 9507, 9486)),
        (100, 100, 1, (8583, 8600, 8554)),
    ],
)
def test_legacy_seeding_gives_the_test_rows_of_the_official_runs(
    classes: int, clients: int, spare: Any, totals: Any
) -> None:
    """Numbers of test rows of all clients for seeds 42, 27, 13.

    The test accuracies that the authors logged for CIFAR-10 with 50 clients (W&B summaries in the first import of their
    repository) are fractions with the denominators 9025, 8999 and 9041. With 1000 test images of a class, the sum of
    floor(1000 * share) over the shares taken is exactly that when shares and classes are drawn from numpy's legacy
    stream of the seed, with one spare share per class. The other rows are recomputed by the same rule.
    """
    kind = Classes(per_client=PER_CLIENT[classes], spare=spare, seeding="legacy")
    for seed, total in zip((42, 27, 13), totals, strict=True):
        partition = split(DATA[classes], kind, clients, seed, 10_000)
        assert sum(len(rows) for rows in partition.test) == total


@pytest.mark.parametrize(
    ("classes", "clients", "spare", "used", "least", "mean", "most"),
    [
        (10, 10, 0, 1.00, 3579, 3999, 4596),
        (10, 10, 1, 0.67, 2351, 2668, 2946),
        (10, 50, 0, 1.00, 666, 799, 926),
        (10, 50, 1, 0.91, 636, 725, 818),
        (10, 75, 0, 1.00, 438, 532, 645),
        (10, 75, 1, 0.94, 412, 500, 593),
        (10, 100, 0, 1.00, 328, 399, 461),
        (10, 100, 1, 0.95, 310, 381, 453),
        (100, 10, 0, 1.00, 4000, 4000, 4000),
        (100, 10, 1, 0.50, 1883, 1998, 2118),
        (100, 50, 0, 0.99, 749, 795, 859),
        (100, 50, 1, 0.83, 606, 662, 716),
        (100, 75, 1, 0.93, 459, 495, 529),
        (100, 100, 0, 0.99, 362, 395, 425),
        (100, 100, 1, 0.90, 331, 358, 383),
    ],
)
def test_training_rows_per_client_with_and_without_the_spare_share(
    classes: int, clients: int, spare: Any, used: Any, least: Any, mean: Any, most: Any
) -> None:
    """Seed 42, exactly 4000 (400) training images of each of 10 (100) classes: sizes to the row, used share to 1 %."""
    data = DATA[classes]
    kind = Classes(per_client=PER_CLIENT[classes], spare=spare, seeding="legacy")
    sizes = kind.counts(kind.shares(data, clients, 42), np.full(classes, 40_000 // classes), "train").sum(axis=1)
    assert (sizes.min(), sizes.max()) == (least, most)
    assert sizes.mean() == pytest.approx(mean, abs=1)
    assert sizes.sum() / 40_000 == pytest.approx(used, abs=0.01)
    assert split(data, kind, clients, 42, 10_000).used == pytest.approx(used, abs=0.02)


@pytest.mark.parametrize("seeding", ["keyed", "legacy"])
@pytest.mark.parametrize("spare", [0, 1])
@pytest.mark.parametrize(("classes", "per_client", "clients"), [(10, 2, 50), (10, 3, 20), (10, 10, 7), (100, 10, 10)])
def test_every_class_is_owned_by_equally_many_clients(
    classes: int, per_client: Any, clients: int, spare: Any, seeding: Any
) -> None:
    """When C * N is a multiple of the classes: C * N / classes owners of each class, and C different classes a client.

    At any time the shares left of two classes differ by at most one, since a class with most is taken; C * N picks from
    equal stocks therefore end with equal stocks.
    """
    kind = Classes(per_client=per_client, spare=spare, seeding=seeding)
    for seed in range(5):
        owns = kind.shares(DATA[classes], clients, seed) > 0
        assert (owns.sum(axis=1) == per_client).all()
        assert (owns.sum(axis=0) == per_client * clients // classes).all()


def test_shares_of_a_class_sum_to_one_without_spare_and_lie_in_their_range() -> None:
    """A share is u / sum u with u in [.4, .6], so with m shares it lies in [.4, .6] / (m * [.6, .4])."""
    shares = Classes(per_client=2, spare=0).shares(CIFAR10, 50, 1)
    assert shares.sum(axis=0) == pytest.approx(np.ones(10))
    taken = shares[shares > 0]
    assert taken.min() >= 0.4 / (10 * 0.6)
    assert taken.max() <= 0.6 / (10 * 0.4)


# ---------------------------------------------------------------- properties of every kind

KINDS = st.one_of(
    st.builds(
        Classes, per_client=st.integers(1, 6), spare=st.integers(1, 2), seeding=st.sampled_from(["keyed", "legacy"])
    ),
    st.builds(Dirichlet, alpha=st.floats(1e-3, 100), min_rows=st.integers(1, 10)),
    st.just(Group()),
    st.just(IID()),
)


@settings(deadline=None, max_examples=60)
@given(KINDS, st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([None, 60]))
def test_rows_are_disjoint_whole_and_repeatable(kind: Kind, clients: int, seed: int, test: int | None) -> None:
    data = make(6, 200, test, groups=12)
    partition = split(data, kind, clients, seed, 240)
    rows = torch.cat([row for part in rows_of(partition).values() for row in part])
    assert rows.dtype == torch.int64
    assert len(rows.unique()) == len(rows)
    assert partition.used == len(rows) / len(data.labels)
    assert partition.clients == clients
    for part in rows_of(partition).values():
        assert len(part) == clients
        assert all(len(row) and bool((row.diff() > 0).all()) for row in part)
    if data.test is not None:
        assert not data.test[torch.cat([*partition.train, *partition.validation])].any()
        assert data.test[torch.cat(partition.test)].all()
    if kind.name in ("dirichlet", "iid"):
        assert partition.used == 1
    assert split(data, kind, clients, seed, 240).checksum() == partition.checksum()


@settings(deadline=None, max_examples=40)
@given(KINDS, st.integers(1, 12), st.integers(0, 1000))
def test_train_validation_and_test_rows_have_the_same_label_shares(kind: Kind, clients: int, seed: int) -> None:
    """A cell is `share * rows of the class in the pool`, rounded down or up: less than one row off."""
    data = make(6, 2000, 500, groups=12)
    partition = split(data, kind, clients, seed, 3000)
    if isinstance(kind, Group):  # its label shares are those of the data, not the partition's doing
        return
    shares = kind.shares(data, clients, seed)
    for part in rows_of(partition).values():
        pool = torch.bincount(data.labels[torch.cat(part)], minlength=6)
        if kind.name != "classes":
            counts = torch.stack([torch.bincount(data.labels[row], minlength=6) for row in part]).numpy()
            assert (abs(counts - shares * pool.numpy()) < 1 + 1e-6).all()
    mixes = [
        torch.stack([torch.bincount(data.labels[r], minlength=6) / len(r) for r in p])
        for p in rows_of(partition).values()
    ]
    largest = max(float((mix - mixes[0]).abs().max()) for mix in mixes)
    fewest = min(len(r) for p in rows_of(partition).values() for r in p)
    assert largest < 0.05 + 6 / fewest  # 0.05: the validation pool is drawn at random and not by class


def test_every_seed_gives_another_partition_and_every_kind_the_same_pools() -> None:
    checksums = {split(CIFAR10, Classes(per_client=2), 10, seed, 10_000).checksum() for seed in range(5)}
    assert len(checksums) == 5
    pools = [split(CIFAR10, kind, 10, 3, 10_000) for kind in (IID(), Dirichlet())]
    first, second = (torch.cat(partition.validation).sort().values for partition in pools)
    assert torch.equal(first, second)


def test_a_partition_is_the_same_on_every_machine() -> None:
    """The first digits of the checksums of one small setting of every kind; a change moves every result."""
    data = make(6, 100, 20, groups=8)
    kinds = (Classes(per_client=2), Classes(per_client=2, seeding="legacy"), Dirichlet(), Group(), IID())
    assert [split(data, kind, 6, 42, 120).checksum()[:8] for kind in kinds] == [
        "85ff4a8c",
        "334131a3",
        "cadb7aa4",
        "80a53ade",
        "376c71e9",
    ]


@pytest.mark.parametrize("test", [None, 30])
def test_global_random_state_is_left_alone(test: Any) -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].copy(), torch.get_rng_state()  # noqa: NPY002
    for kind in (Classes(per_client=2), Classes(per_client=2, seeding="legacy"), Dirichlet(), IID()):
        split(make(6, 100, test), kind, 6, 42, 100)
    assert (before[0] == np.random.get_state(legacy=False)["state"]["key"]).all()  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


# ---------------------------------------------------------------- single kinds


def test_iid_totals_differ_by_at_most_one_row_and_classes_too() -> None:
    partition = split(make(7, 101, 33), IID(), 13, 0, 150)
    for name, part in rows_of(partition).items():
        sizes = [len(rows) for rows in part]
        assert max(sizes) - min(sizes) <= 1, name
    counts = partition.histogram(make(7, 101, 33).labels, 7)
    assert int((counts.max(dim=0).values - counts.min(dim=0).values).max()) <= 1


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([1e-3, 0.01, 0.1, 1.0, 1e6]), st.integers(2, 40), st.integers(0, 10_000))
def test_dirichlet_shares_never_starve_a_client(alpha: float, clients: int, seed: int) -> None:
    """The shares of a client over all classes sum to at least 1 / N.

    With p_i on the simplex and a_ic = p_ic / sum_j p_jc, the denominator is at most N, so sum_c a_ic >= sum_c p_ic / N
    = 1 / N. With k rows of each class a client has at least k / N of them, however small alpha: none is drawn again.
    """
    shares = Dirichlet(alpha=alpha).shares(CIFAR10, clients, seed)
    assert np.isfinite(shares).all()
    assert shares.sum(axis=0) == pytest.approx(np.ones(10))
    assert (shares.sum(axis=1) >= 1 / clients - 1e-12).all()


def test_dirichlet_fills_up_to_the_least_rows_and_keeps_the_rest() -> None:
    """100 clients of 12 training rows on average, at least 11 each; one class a client at alpha = 0.001."""
    data = make(10, 120, 20)
    partition = split(data, Dirichlet(alpha=1e-3, min_rows=9), 100, 5, 200)
    sizes = [len(rows) for rows in partition.train]
    assert min(sizes) >= 9
    assert sum(sizes) == 1000
    assert min(len(rows) for rows in (*partition.validation, *partition.test)) >= 1


def test_dirichlet_alpha_sets_how_many_classes_a_client_has() -> None:
    few, many = (
        (split(CIFAR10, Dirichlet(alpha=alpha), 10, 0, 10_000).histogram(CIFAR10.labels, 10) > 0)
        .sum(dim=1)
        .float()
        .mean()
        for alpha in (0.01, 100.0)
    )
    assert few < 3
    assert many == 10


def test_apportion_keeps_columns_and_nearly_keeps_rows() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(9), size=5).T  # 9 clients, 5 strata
    rows = np.array([17, 3, 0, 101, 55])
    counts = apportion(shares, rows, 1)
    assert (counts.sum(axis=0) == rows).all()
    assert (abs(counts - shares * rows) < 1).all()
    assert (abs(counts.sum(axis=1) - (shares * rows).sum(axis=1)) < 1.5).all()


def test_group_clients_are_the_groups_in_order_and_fewer_clients_draw_groups() -> None:
    data = make(4, 60, groups=6)
    assert data.group is not None
    partition = split(data, Group(), 6, 0, 0)
    for rows in rows_of(partition).values():
        assert [data.group[own].unique().tolist() for own in rows] == [[g] for g in range(6)]
    assert [len(own) for own in partition.train] == [28] * 6  # 40 rows a group: 28 / 6 / 6
    assert [len(own) for own in partition.test] == [6] * 6
    drawn = {tuple(int(data.group[own[0]]) for own in split(data, Group(), 3, seed, 0).train) for seed in range(8)}
    assert len(drawn) > 1
    assert all(list(groups) == sorted(set(groups)) for groups in drawn)


# ---------------------------------------------------------------- text


class Anything(Dataset):
    classes_per_client = 7
    partition = "dirichlet:alpha=0.3"

    def load(self, root: Path) -> Data:
        raise NotImplementedError


@settings(max_examples=60)
@given(
    st.one_of(
        st.builds(
            Classes,
            per_client=st.integers(1, 100),
            spare=st.integers(0, 9),
            low=st.floats(1e-9, 0.5),
            high=st.floats(0.5, 1e9),
            seeding=st.sampled_from(["keyed", "legacy"]),
        ),
        st.builds(Dirichlet, alpha=st.floats(1e-3, 1e6), min_rows=st.integers(1, 99)),
        st.sampled_from([Group(), IID()]),
    )
)
def test_text_and_kind_say_the_same(kind: Kind) -> None:
    assert parse_partition(str(kind), Anything) == kind


def test_text_takes_what_it_does_not_say_from_the_data_set() -> None:
    assert parse_partition(None, Anything) == Dirichlet(alpha=0.3)
    assert parse_partition("classes", Anything) == Classes(per_client=7)
    assert parse_partition(" IID", Anything()) == IID()
    assert str(parse_partition("Classes: per-client=2, spare=0", Anything)) == (
        "classes:per_client=2,spare=0,low=0.4,high=0.6,seeding=keyed"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clases", "'clases'.*Did you mean 'classes'.*iid"),
        ("dirichlet:alhpa=1", "'alhpa'.*Did you mean 'alpha'"),
        ("dirichlet:alpha=0", "alpha = 0: .*greater than or equal to 0.001"),
        ("dirichlet:alpha=nan", "alpha = nan"),
        ("dirichlet:alpha=much", "alpha = much: .*number"),
        ("dirichlet:alpha", "'alpha' cannot be read; write FIELD=VALUE with a field of dirichlet: alpha, min_rows"),
        ("dirichlet:", "'' cannot be read"),
        ("classes:spare=-1", "spare = -1"),
        ("classes:per_client=1.5", "per_client = 1.5"),
        ("classes:seeding=old", "seeding = old: .*'keyed' or 'legacy'"),
        ("classes:low=0.9", "low = 0.9 must not be above high = 0.6"),
        ("iid:alpha=1", "'alpha=1' cannot be read; .*a field of iid: it has none"),
    ],
)
def test_text_that_cannot_be_names_the_value_and_the_remedy(text: str, words: Any) -> None:
    with pytest.raises(BadInput, match=words):
        parse_partition(text, Anything)


# ---------------------------------------------------------------- impossible settings


@pytest.mark.parametrize(
    ("data", "kind", "clients", "validation", "words"),
    [
        (CIFAR10, IID(), 0, 10_000, "at least 1 client, not 0"),
        (CIFAR10, IID(), 60_001, 10_000, "60001 clients cannot share 60000 samples; ask for fewer"),
        (CIFAR10, IID(), 10_001, 10_000, "would hold 0 of the 10000 validation rows.*fewer clients"),
        (CIFAR10, IID(), 10, 0, r"validation_rows = 0 must be 1 \.\. 49999"),
        (CIFAR10, IID(), 10, 50_000, r"validation_rows = 50000 must be 1 \.\. 49999"),
        (CIFAR10, Classes(per_client=11), 10, 10_000, "per_client = 11 is more than the 10 classes"),
        (
            CIFAR100,
            Classes(per_client=10, spare=0),
            75,
            10_000,
            "75 clients of 10 classes take 7.5 shares of each of 100.*spare = 0.*use spare=1 or another number",
        ),
        (
            CIFAR10,
            Classes(per_client=2),
            9_000,
            10_000,
            "would hold 0 of the 10000 validation rows.*classes:per_client=2",
        ),
        (CIFAR10, Classes(per_client=2, seeding="legacy"), 10, 10_000, "seed = -1 cannot be used with seeding=legacy"),
        (CIFAR10, Group(), 10, 10_000, "needs natural groups.*use classes, dirichlet or iid"),
        (make(4, 60, groups=6), Group(), 7, 0, "7 clients are more than the 6 groups; ask for at most 6"),
        (make(2, 30), Dirichlet(min_rows=30), 2, 0, "of the 42 train rows, and must hold at least 30.*fewer clients"),
        (make(2, 2), IID(), 1, 0, "client 0 of 1 would hold 0 of the 0 test rows"),
    ],
)
def test_impossible_settings_are_one_sentence(data: Any, kind: Any, clients: int, validation: Any, words: Any) -> None:
    with pytest.raises(BadInput, match=words):
        split(data, kind, clients, -1 if "legacy" in str(kind) else 0, validation)


# ---------------------------------------------------------------- looking at it


def test_summary_and_table_give_the_sizes() -> None:
    data = make(6, 200, 60)
    partition = split(data, Classes(per_client=2), 9, 1, 240)
    frame = table(partition, data)
    assert frame.shape == (9, 3 + 6)
    assert frame["train"].tolist() == [len(rows) for rows in partition.train]
    assert (frame.filter(like="class").sum(axis=1) == frame["train"]).all()
    assert ((frame.filter(like="class") > 0).sum(axis=1) == 2).all()
    text = summary(partition, data)
    assert f"9 clients hold {partition.used:.1%} of 1560 samples" in text
    assert partition.checksum() in text
    (line,) = (line for line in text.splitlines() if line.startswith("train rows of a client"))
    assert line.split()[-3:] == [str(frame["train"].min()), f"{frame['train'].mean():.1f}", str(frame["train"].max())]


def test_checksum_tells_who_holds_a_row() -> None:
    def one(*clients: list[int]) -> str:
        rows = tuple(torch.tensor(own) for own in clients)
        return Partition(rows, rows, rows, 4).checksum()

    assert len({one([0, 1], [2]), one([0], [1, 2]), one([0, 1], [3])}) == 3


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_picture_is_saved_in_the_format_of_its_suffix(tmp_path: Path, suffix: Any) -> None:
    data = make(6, 50, 20)
    path = tmp_path / f"clients{suffix}"
    picture(split(data, IID(), 4, 0, 60), data, path)
    assert path.read_bytes()[:4] == {".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix]


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_picture_has_the_same_bytes_on_another_day(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """matplotlib takes the date of a file from SOURCE_DATE_EPOCH, where that is set, and else from the clock."""
    data = make(6, 50, 20)
    found = set()
    for day in ("1000000", "2000000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", day)
        path = tmp_path / f"clients-{day}{suffix}"
        picture(split(data, IID(), 4, 0, 60), data, path)
        found.add(path.read_bytes())
    assert len(found) == 1


def test_picture_names_the_formats_it_can_write(tmp_path: Path) -> None:
    data = make(6, 50, 20)
    with pytest.raises(BadInput, match=r"clients\.doc cannot be written: its suffix must be one of .*pdf.*png"):
        picture(split(data, IID(), 4, 0, 60), data, tmp_path / "clients.doc")
