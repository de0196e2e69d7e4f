"""Parts of a report: what they compute from models, partitions and embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import a_job

from fedbench import storage
from fedbench.api import reproduce
from fedbench.dataset import Data
from fedbench.datasets.cifar100 import COARSE, coarse_of_fine
from fedbench.errors import BadInput
from fedbench.experiments.rules import CellName
from fedbench.experiments.schema import load
from fedbench.partitions import Coarse, Dirichlet, split
from fedbench.reporting.claims import answers
from fedbench.reporting.paper import parts
from fedbench.reporting.paper.distance import nearest_distances
from fedbench.reporting.paper.embeddings import grouping
from fedbench.reporting.paper.extractors import matrix, mix, summary
from fedbench.reporting.paper.material import Material, Stored
from fedbench.reporting.paper.sizes import clients_by_network
from fedbench.runs.plan import plan
from fedbench.storage import result_path

FILE = """\
title = "Mine"
paper = "none"
caption = "none"
metric = "pooled"
tables = ["grid"]
extras = ["{extras}"]
keep_models = {keep}
axis = "k"
methods = ["fedavg", "pfedhn-pc"]

[settings]
all.local.steps = 2

[presets.smoke]
visits = 12
seeds = 2

[[columns]]
name = "one"
label = "One"
dataset = "digits"
clients = 10
x = 1
{column}

[[columns]]
name = "two"
label = "Two"
dataset = "digits"
clients = 10
x = 2
visits = 8
{column}
"""


def made(tmp_path: Path, extras: str, column: str = "", keep: bool = False) -> tuple[Material, Path]:
    """The runs of a small experiment, made and reported on."""
    path = tmp_path / "mine.toml"
    path.write_text(FILE.format(extras=extras, column=column, keep=str(keep).lower()))
    results, out = tmp_path / "results", tmp_path / "out"
    report = reproduce(str(path), preset="smoke", jobs=1, results=results, out=out, device="cpu")
    assert report.status == 0, (report.warnings, report.gaps)
    again = plan(load(str(path)), "smoke", results=results, device="cpu")
    return Material(again), out / "mine"


@pytest.mark.slow
def test_extractors_give_back_the_stored_scores_on_the_diagonal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material, out = made(tmp_path, "extractors", keep=True)
    for method in ("fedavg", "pfedhn-pc"):
        for stored in material.stored["one", method]:
            found, classes = matrix(stored, material)
            test = stored.result.best.test
            np.testing.assert_allclose(np.diag(found), 100 * np.array(test.correct) / np.array(test.total))
            if method == "fedavg":  # one model for all: every extractor is everybody's
                assert (found == found[:, :1]).all()
            assert all(len(each) == 2 for each in classes)
    values = parts(material.plan).values
    assert set(values[CellName("diagonal", "pfedhn-pc", "one")]) == {42, 27}
    assert (out / "figures" / "one-pfedhn-pc-raw.png").is_file()
    stored, *_ = material.stored["one", "pfedhn-pc"]  # a diverged model is right about nothing, as in training
    before = matrix(stored, material)[0]
    with monkeypatch.context() as patch:
        read = storage.read_models

        def diverged(*place: Any) -> Any:
            models, embeddings = read(*place)
            return {**models, 0: {name: value * torch.nan for name, value in models[0].items()}}, embeddings

        patch.setattr("fedbench.reporting.paper.extractors.read_models", diverged)
        after = matrix(stored, material)[0]
    assert not after[0].any()
    assert not after[:, 0].any()
    np.testing.assert_array_equal(after[1:, 1:], before[1:, 1:])
    for stored in material.stored["one", "pfedhn-pc"]:  # a damaged file is a sentence, and the rest goes on
        assert stored.result.models is not None
        stored.path.with_name(stored.result.models.file).write_bytes(b"damaged")
    table = next(table for table in parts(material.plan).tables if table.name == "extractors-problems")
    assert "is damaged" in table.rows[0][0]
    accuracy = CellName("accuracy", "pfedhn-pc", "one")
    for stored in material.stored["one", "pfedhn-pc"]:  # nor do accuracies go with a file that is missing
        assert stored.result.models is not None
        stored.path.with_name(stored.result.models.file).unlink()
    without = parts(material.plan)
    assert without.values[accuracy] == values[accuracy]
    assert CellName("diagonal", "pfedhn-pc", "one") not in without.values


@pytest.mark.slow
def test_a_sweep_compares_columns_by_seed_and_knows_their_places(tmp_path: Path) -> None:
    material, out = made(tmp_path, "sweep")
    part = parts(material.plan)
    assert part.places["k", "two"] == {42: 2.0, 27: 2.0}
    (table,) = (table for table in part.tables if table.name == "sweep-differences")
    values = part.values
    differences = [
        values[CellName("accuracy", "fedavg", "two")][seed] - values[CellName("accuracy", "fedavg", "one")][seed]
        for seed in (42, 27)
    ]
    assert table.rows[0][1][0].value == pytest.approx(np.mean(differences))
    assert (out / "figures" / "sweep.png").is_file()


def test_results_that_tables_refuse_to_average_decide_no_claim(tmp_path: Path) -> None:
    """Of two versions of fedbench: a claim is not tested where the table has no mean."""
    claim = '[[claims]]\ntext = "Mine."\nwhere = "here"\ncertainty = "remembered"\nrule = "pfedhn-pc > fedavg in {}"\n'
    text = FILE.format(extras="sweep", column="", keep="false") + claim.format("one") + claim.format("one, gap")
    path, results = tmp_path / "mine.toml", tmp_path / "results"
    path.write_text(text.replace("clients = 10", "clients = 4").replace("visits = 12", "visits = 3"))
    reproduce(str(path), preset="smoke", jobs=1, results=results, out=tmp_path / "out", device="cpu")
    made = plan(load(str(path)), "smoke", results=results, device="cpu")
    first, second = answers(made, parts(made))
    assert first.verdict in ("holds", "does not hold", "undecided")
    assert second.verdict == "not tested"
    assert "(its results do not give it)" in second.evidence, "there are no unseen clients"
    job = made.jobs["one", "fedavg"][1]
    stored = json.loads(result_path(results, job.spec).read_text())
    stored["provenance"]["software"]["fedbench"] = "0.0.9"
    result_path(results, job.spec).write_text(json.dumps(stored))
    assert set(Material(made).stored) == {("one", "pfedhn-pc"), ("two", "fedavg"), ("two", "pfedhn-pc")}
    answer = answers(made, parts(made))[0]
    assert answer.verdict == "not tested"
    assert answer.evidence == "There is no accuracy of fedavg in one (no results that can be averaged)."


def test_a_network_of_unseen_clients_alone_has_no_accuracy_among_the_trained(tmp_path: Path) -> None:
    spec = a_job(tmp_path, clients=5, novel_clients=2, network="mlp-digits*3,mnist-mlp*2").spec
    job, result = SimpleNamespace(networks=()), SimpleNamespace(spec=spec)
    assert clients_by_network(Stored(job, tmp_path, result)) == {"mlp-digits": [0, 1, 2]}  # type: ignore[arg-type]


@pytest.mark.slow
def test_accuracy_by_network_adds_up_to_that_of_all(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(
        "from fedbench.models import mlp\n\n\n"
        "def network(image, classes):\n    return mlp(image, classes, 4, 'small')\n"
    )
    material, out = made(tmp_path, "sizes", 'network = ["./small.py*4", "mlp-digits*6:shuffled"]')
    values = parts(material.plan).values
    for stored in material.stored["one", "fedavg"]:
        total = np.array(stored.result.best.test.total)
        assert total.shape == (10,)
        groups = {n: values[CellName(n, "fedavg", "one")][stored.seed] for n in ("small", "mlp-digits")}
        low, high = sorted(groups.values())
        assert low <= values[CellName("accuracy", "fedavg", "one")][stored.seed] <= high
    assert (out / "figures" / "one-sizes.png").is_file()


@pytest.mark.slow
def test_distance_of_unseen_clients(tmp_path: Path) -> None:
    column = 'novel_clients = 3\nadapt_visits = 1\npartition = "dirichlet:alpha=10,novel=3,novel_alpha=0.1"'
    material, out = made(tmp_path, "distance", column)
    part = parts(material.plan)
    assert set(part.places["distance", "one"]) == {42, 27}
    assert all(0 < place < 1 for place in part.places["distance", "one"].values())
    assert {"accuracy", "unseen", "gap"} <= {cell.quantity for cell in part.values}
    assert (out / "figures" / "distance-gap.png").is_file()


@pytest.mark.slow
def test_embeddings_of_groups(tmp_path: Path) -> None:
    material, out = made(tmp_path, "embeddings", 'partition = "coarse:size=2"', keep=True)
    part = parts(material.plan)
    purity = part.values[CellName("purity", "pfedhn-pc", "one")]
    assert set(purity) == {42, 27}
    problems = next(table for table in part.tables if table.name == "embeddings-problems")
    assert "its server has no embeddings of clients" in problems.rows[0][0], "FedAvg has none"
    assert (out / "figures" / "one-pfedhn-pc-embeddings.png").is_file()


# ---------------------------------------------------------------- the numbers themselves


def test_distances_by_hand() -> None:
    """Of (1, 0, 0) to (1/2, 1/2, 0) and (0, 0, 1): 1/2 and 1, the nearest is 1/2; of the second training client 0."""
    histogram = torch.tensor([[5, 5, 0], [0, 0, 7], [3, 0, 0], [0, 0, 2]])
    assert nearest_distances(histogram, 2) == pytest.approx([0.5, 0.0])


def test_planted_groups_are_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), 5)
    centres = 10 * rng.standard_normal((5, 4))
    planted = grouping(centres[groups] + 0.1 * rng.standard_normal((25, 4)), groups, 200)
    assert planted.purity == 1
    assert planted.silhouette > 0.9
    assert planted.p_purity == pytest.approx(1 / 201)
    noise = grouping(rng.standard_normal((25, 4)), groups, 200)
    assert noise.p_purity > 0.01
    # 4 of 24 others are of the own group
    assert noise.permuted_purity == pytest.approx(4 / 24, abs=0.02)
    assert planted.permuted_purity == pytest.approx(4 / 24, abs=0.02)


def test_grouping_does_not_depend_on_turning_and_shifting() -> None:
    rng = np.random.default_rng(1)
    vectors, groups = rng.standard_normal((12, 3)), np.repeat(np.arange(3), 4)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    one, two = grouping(vectors, groups, 50), grouping(2 * vectors @ turn + 5, groups, 50)
    assert one.purity == two.purity
    assert one.silhouette == pytest.approx(two.silhouette)


def test_groups_that_cannot_be_compared_are_refused() -> None:
    for groups in (np.zeros(6, dtype=np.int64), np.arange(6), np.array([0, 0, 0, 1, 1, 2])):
        with pytest.raises(BadInput, match="at least two groups"):
            grouping(np.eye(6), groups)


def test_mixing_and_summing_up() -> None:
    own, other = {"a": torch.zeros(1), "b": torch.zeros(1)}, {"a": torch.ones(1), "b": torch.ones(1)}
    assert {name: float(value) for name, value in mix(own, other, ("b",)).items()} == {"a": 1.0, "b": 0.0}
    found = np.array([[90.0, 60.0, 20.0], [50.0, 80.0, 10.0], [30.0, 40.0, 70.0]])
    means = summary(found, [{0, 1}, {0, 1}, {1, 2}])
    assert means["diagonal"] == 80
    assert means["off-diagonal"] == pytest.approx(210 / 6)
    assert means["shared-all"] == 55
    assert means["shared-1"] == 25
    assert means["best-other"] == 50
    assert "shared-0" not in means


# ---------------------------------------------------------------- partitions of the experiments


def labelled(classes: int, each: int, group: torch.Tensor | None = None) -> Data:
    labels = torch.arange(classes).repeat_interleave(each)
    return Data(
        images=torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8),
        labels=labels,
        classes=classes,
        mean=(0.0,),
        std=(1.0,),
        group=None if group is None else group[labels],
    )


def test_the_coarse_classes_of_cifar_100() -> None:
    """20 of 5, and some that everybody knows: apple is the first and worm the last of the fine classes."""
    coarse = coarse_of_fine()
    assert coarse.bincount().tolist() == [5] * 20
    names = sorted(name for names in COARSE.values() for name in names.split())
    assert (names[0], names[1], names[47], names[99]) == ("apple", "aquarium_fish", "maple_tree", "worm")
    assert [list(COARSE)[coarse[names.index(name)]] for name in ("shark", "rose", "tank")] == [
        *("fish", "flowers", "vehicles 2"),
    ]


def test_each_coarse_class_goes_to_five_of_a_hundred_clients() -> None:
    data = labelled(100, 100, coarse_of_fine())
    dealt = split(data, Coarse(), 100, 42, 10).histogram(data.labels, 100)
    for client, row in enumerate(dealt):
        held = torch.nonzero(row)[:, 0]
        assert coarse_of_fine()[held].unique().tolist() == [client // 5]
        assert len(held) == 5
        assert int(row.max()) - int(row[held].min()) <= 1


def test_coarse_groups_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadInput, match="does not divide the 10 classes"):
        Coarse(size=3).class_groups(labelled(10, 2))
    with pytest.raises(BadInput, match="has no groups of classes"):
        Coarse().class_groups(labelled(10, 2))
    with pytest.raises(BadInput, match="fewer than the 5 groups"):
        Coarse(size=2).client_groups(labelled(10, 2), 4)
    mixed = Data(**{**vars(labelled(2, 4)), "group": torch.arange(8) % 2})
    with pytest.raises(BadInput, match="no groups of classes"):
        Coarse().class_groups(mixed)


def test_draws_of_training_clients_do_not_depend_on_those_who_join() -> None:
    """The label shares of the first clients, each over its own sum, are those for any other novel_alpha."""
    data = labelled(10, 100)
    plain = Dirichlet(alpha=10.0).shares(data, 12, 42)
    one, two = (Dirichlet(alpha=10.0, novel=3, novel_alpha=a).shares(data, 15, 42) for a in (0.1, 1.0))
    drawn = [np.log(shares[:12]) for shares in (plain, one, two)]
    # of class c client i has p_ic / sum_j p_jc: ratios of ratios are those of the p_ic
    ratios = [d[:, :1] - d - (d[:1, :1] - d[:1]) for d in drawn]
    np.testing.assert_allclose(ratios[0], ratios[1], atol=1e-9)
    np.testing.assert_allclose(ratios[0], ratios[2], atol=1e-9)
    assert not np.allclose(one[12:], two[12:])


def test_a_setting_without_novel_clients_reads_as_before() -> None:
    """The text is part of the name of stored runs."""
    assert str(Dirichlet(alpha=0.3)) == "dirichlet:alpha=0.3,min_rows=10"
    assert str(Dirichlet(alpha=10, novel=2, novel_alpha=0.1)).endswith("novel=2,novel_alpha=0.1")
    for half in ({"novel": 2}, {"novel_alpha": 0.1}):
        with pytest.raises(ValueError, match="belong together"):
            Dirichlet(**half)


def test_embeddings_that_are_no_numbers_are_a_sentence() -> None:
    vectors = np.ones((4, 2))
    vectors[2, 1] = np.nan
    with pytest.raises(BadInput, match="no numbers: training diverged"):
        grouping(vectors, np.array([0, 0, 1, 1]), 10)


def test_a_client_alone_has_no_other_extractor() -> None:
    assert summary(np.array([[80.0]]), [{0, 1}]) == {"diagonal": 80.0}
