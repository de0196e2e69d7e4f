"""Clients with different networks in one run: bytes, states, resume, width, unseen clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import a_job, done, finished, numbers, work

from fedbench import plugins, storage
from fedbench.errors import BadInput
from fedbench.runs.comparison import Comparison, check_possible
from fedbench.runs.prepare import Problem, prepare
from fedbench.training import Engine, Keep, Progress, adapt

SMALL = """
from fedbench.models import mlp


def network(image, classes):
    return mlp(image, classes, 4, "small")
"""
VALUES = {"small": 4 * 65 + 10 * 5, "mlp-digits": 32 * 65 + 10 * 33}  # 64 pixels, 10 classes


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(SMALL)
    return path


def mixed(method: str, small: Path, order: str = "", dtype: str = "float32", **changes: Any) -> Problem:
    """Three clients with a small network and three with the usual one, ready to be trained."""
    settings = {f"{method}.local.steps": "2"}
    job = Comparison(
        methods=[method],
        seeds=[1],
        clients=6,
        network=f"{small}*3,mlp-digits*3{order}",
        visits=12,
        evaluate_every=4,
        settings={**settings, **changes.pop("settings", {})},
        device="cpu",
        **changes,
    ).jobs()[0]
    spec = job.spec.model_copy(update={"dtype": dtype})
    networks = plugins.parse_networks(f"{small}*3,mlp-digits*3{order}", 6)
    return prepare(spec, plugins.find_method(method), plugins.find_dataset("digits"), Path(), networks=networks)


@pytest.mark.parametrize("method", ["pfedhn", "pfedhn-pc", "fedavg", "local", "fedper"])
def test_bytes_are_those_of_each_clients_own_network(method: str, small: Path) -> None:
    """A visit of a client moves its model down and up: what pFedHN-PC and FedPer keep at home does not travel."""
    ready = mixed(method, small)
    progress = ready.engine.start()
    head = {"small": 10 * 5, "mlp-digits": 10 * 33}
    kept = head if method in ("pfedhn-pc", "fedper") else VALUES if method == "local" else dict.fromkeys(head, 0)
    with torch.no_grad():
        for client in (0, 5, 2):
            name = "small" if client < 3 else "mlp-digits"
            before = progress.bytes_down, progress.bytes_up
            ready.engine.visit(progress, [client], 0)
            moved = 4 * (VALUES[name] - kept[name])
            assert (progress.bytes_down - before[0], progress.bytes_up - before[1]) == (moved, moved)


def test_a_method_that_is_not_mixed_has_a_server_for_each_network(small: Path) -> None:
    """FedAvg's model of one network changes when, and only when, a client with this network is visited."""
    engine = mixed("fedavg", small).engine
    start = engine.start()
    assert [set(map(len, (state["fc1.bias"],))) for state in start.server] == [{4}, {32}]
    with torch.no_grad():
        progress = engine.start()
        engine.receive(progress, engine.visit(progress, [4], 0))
    same = [
        all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(start.server, progress.server, strict=True)
    ]
    assert same == [True, False]


def test_one_hypernetwork_serves_all_and_leaves_the_heads_of_others_alone(small: Path) -> None:
    engine = mixed("pfedhn", small).engine
    with torch.no_grad():
        progress = engine.start()
        before = progress.server["phi"]
        engine.receive(progress, engine.visit(progress, [4], 0))
    after = progress.server["phi"]
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if not name.startswith("head.small.")}


@pytest.mark.parametrize("method", ["pfedhn", "pfedhn-pc"])
def test_neighbours_with_one_network_are_one_network(method: str, tmp_path: Path) -> None:
    """`a*2,a*2,a*2` is `a` for six clients: the same spec, so the same run, to the bit."""
    make = {"methods": [method], "clients": 6, "novel_clients": 0, "adapt_visits": None, "settings": {}, "visits": 4}
    one = a_job(tmp_path / "one", network="mlp-digits", **make)
    three = a_job(tmp_path / "three", network="mlp-digits*2,mlp-digits*2,mlp-digits*2", **make)
    assert one.spec == three.spec
    assert done(one) == done(three)


def test_twins_of_one_network_generate_what_their_heads_say(small: Path) -> None:
    """With the heads of one network copied to the other, two networks of one shape are served as one (float64).

    Models are generated for three clients at a time where the plain run does it for six, and a product of matrices may
    add up in another order for another number of rows: hence 1e-12 and not equality.
    """
    twin = small.with_name("twin.py")
    twin.write_text(SMALL.replace("small", "twin"))
    text = f"{small}*3,{twin}*3"
    found = {}
    for name, networks in (("mixed", text), ("plain", str(small))):
        job = Comparison(methods=["pfedhn"], seeds=[1], clients=6, network=networks, visits=6, device="cpu").jobs()[0]
        spec = job.spec.model_copy(update={"dtype": "float64"})
        parsed = plugins.parse_networks(networks, 6)
        engine = prepare(
            spec, plugins.find_method("pfedhn"), plugins.find_dataset("digits"), Path(), networks=parsed
        ).engine
        found[name] = (engine, engine.start())
    (mixed_engine, there), (plain_engine, here) = found["mixed"], found["plain"]
    for name in here.server["phi"]:
        if name.startswith("head."):
            part = name.removeprefix("head.")
            for network in ("small", "twin"):
                there.server["phi"][f"head.{network}.{part}"] = here.server["phi"][name].clone()
        else:
            there.server["phi"][name] = here.server["phi"][name].clone()
    there.server["embedding"] = here.server["embedding"].clone()
    with torch.no_grad():
        for a, b in zip(mixed_engine.models(there), plain_engine.models(here), strict=True):
            for name in b:
                torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-12)
        # visits to clients of the first network only: the other set of heads has no part in it
        for round_, client in enumerate((0, 2, 1)):
            for engine, progress in ((mixed_engine, there), (plain_engine, here)):
                engine.receive(progress, engine.visit(progress, [client], round_))
        for a, b in zip(mixed_engine.models(there, [0, 1, 2]), plain_engine.models(here, [0, 1, 2]), strict=True):
            for name in b:
                torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-12)


def test_shuffled_clients_keep_the_counts_and_depend_on_the_seed(small: Path) -> None:
    networks = plugins.parse_networks(f"{small}*3,mlp-digits*3:shuffled", 6)
    dealt = [networks.places(seed) for seed in range(20)]
    assert all(sorted(places) == [0, 0, 0, 1, 1, 1] for places in dealt)
    assert len({tuple(places) for places in dealt}) > 1
    assert networks.places(3) == networks.places(3)


@pytest.mark.parametrize("method", ["pfedhn", "pfedhn-pc", "fedavg", "fedper", "lg-fedavg"])
def test_loop_and_vmap_agree(method: str, small: Path) -> None:
    settings = {f"{method}.clients_per_round": "4"}
    loop = mixed(method, small, ":shuffled", "float64", settings=settings)
    lifted = mixed(method, small, ":shuffled", "float64", settings=settings)
    wide = Engine(
        [_plain(each) for each in lifted.engine.methods],
        lifted.engine.clients,
        type(lifted.engine.schedule)(**{**vars(lifted.engine.schedule), "width": 3}),
        1,
    )
    a, b = finished(loop), Progress(server=None)
    b = wide.start()
    assert wide.run(b, Keep(), lambda _: False)
    for one, other in zip(a.history, b.history, strict=True):
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-9)


def _plain(method: Any) -> Any:
    from dataclasses import replace

    return replace(method, task=replace(method.task, plain=True))


@pytest.mark.parametrize("method", ["pfedhn-pc", "fedavg"])
def test_going_on_from_any_round_gives_the_same_bits(method: str, small: Path) -> None:
    ready = mixed(method, small, ":shuffled")
    straight = finished(ready)
    stopped = ready.engine.start()
    for _ in range(100):
        if ready.engine.run(stopped, Keep(), lambda _: True):
            break
        if stopped.round == ready.engine.rounds:
            break
    assert [row["val_loss"] for row in stopped.history] == [row["val_loss"] for row in straight.history]
    assert stopped.best == straight.best


@pytest.mark.parametrize("method", ["pfedhn", "pfedhn-pc", "fedavg", "fedper"])
def test_unseen_clients_of_both_networks_join(method: str, small: Path, tmp_path: Path) -> None:
    job = a_job(
        tmp_path / "results",
        methods=[method],
        clients=6,
        novel_clients=4,
        network=f"mlp-digits*1,{small}*3,mlp-digits*2",
        settings={f"{method}.local.steps": "2"},
    )
    done(job)
    stored = storage.read(storage.result_path(job.results, job.spec))
    assert stored.unseen is not None
    assert len(stored.unseen.best.test.total) == 4
    assert stored.spec.network == "mlp-digits*1,small*3,mlp-digits*2"
    assert set(stored.codes) == {"small"}


def test_adapting_leaves_the_trained_server_alone(small: Path) -> None:
    ready = mixed("pfedhn", small, novel_clients=2)
    progress = finished(ready)
    before = {name: value.clone() for name, value in progress.server["phi"].items()}
    assert ready.unseen is not None
    assert adapt(progress.server, ready.unseen, ready.engine.rounds) is not None
    assert all(torch.equal(progress.server["phi"][name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlp-digits*3,mlp-digits*4", "are for 7 clients, and there are 6: make them add up"),
        ("mlp-digits*3,lenet", "has no number of clients"),
        ("mlp-digits*0,lenet*6", "cannot be read: write NAME\\*CLIENTS"),
        ("mlp-digits*x,lenet*6", "cannot be read: write NAME\\*CLIENTS"),
        ("mlp-digit*6", "Did you mean 'mlp-digits'"),
    ],
)
def test_lists_that_do_not_add_up_are_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        a_job(tmp_path / "results", clients=6, network=text)
    assert not (tmp_path / "results").exists()


def test_a_mixed_run_is_stored_and_found_again(small: Path, tmp_path: Path) -> None:
    job = a_job(tmp_path, clients=6, network=f"{small}*3,mlp-digits*3", novel_clients=0, adapt_visits=None)
    first = done(job)
    assert work(job).ending == "done"
    assert numbers(storage.result_path(job.results, job.spec)) == first


@pytest.mark.parametrize(("order", "novel"), [("", 3), ("", 4), (":shuffled", 5)])
def test_unseen_clients_have_a_network_that_was_trained(order: str, novel: int, small: Path) -> None:
    """A server that never had a client of it would score them with its random start."""
    with pytest.raises(BadInput, match="is that of no training client") as refused:
        mixed("fedavg", small, order, novel_clients=novel, adapt_visits=1)
    assert "hold out fewer clients" in str(refused.value)
    job = a_job(small.parent, clients=6, network=f"{small}*3,mlp-digits*3{order}", novel_clients=novel, adapt_visits=1)
    with pytest.raises(BadInput, match="is that of no training client"):
        check_possible([job])
    assert mixed("fedavg", small, novel_clients=2, adapt_visits=1).unseen is not None
