"""Large plans: an index that is never believed against the files, status, what is kept in a file, shared samples."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from small_runs import a_job, linux, numbers

from fedbench import plugins, storage, tree
from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.runs import checkpoint, job, mapped, pool, spill
from fedbench.runs.comparison import SEEDS_TRIED, Comparison, check_possible
from fedbench.runs.job import Job
from fedbench.runs.spill import Spill
from fedbench.runs.state import look
from fedbench.runs.status import Speeds, announced, status
from fedbench.storage import Facts, Index, index
from fedbench.training import Progress

DAY = 86_400


def work(a: Job) -> job.Outcome:
    return job.work(a, a.results / "no-such-stop-file", os.getpid(), wait=False)


def old(path: Path) -> None:
    """Let the file at `path` be from yesterday, so that its times tell of every change."""
    then = path.stat().st_mtime - DAY
    os.utime(path, (then, then))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file's times are believed at once."""
    monkeypatch.setattr(index, "SETTLED", -1e18)


# ---------------------------------------------------------------- the index


def read_paths(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read in full from now on."""
    paths: list[Path] = []
    original = storage.read

    def read(path: Path) -> storage.Result:
        paths.append(path)
        return original(path)

    monkeypatch.setattr(index, "read", read)
    monkeypatch.setattr(storage, "read", read)
    return paths


@pytest.mark.usefixtures("settled")
def test_what_was_checked_once_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor by the next process: the index is a file. A longer run answers for a shorter one without being read."""
    jobs = [
        a_job(tmp_path, methods=["fedavg"], novel_clients=0, adapt_visits=None, settings={}, visits=v) for v in (10, 12)
    ]
    assert work(jobs[1]).ending == "done"
    paths = read_paths(monkeypatch)
    assert pool.split_done(jobs) == (jobs, [])
    assert len(paths) == 1
    assert pool.split_done(jobs) == (jobs, [])
    assert len(paths) == 1


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", ["edited", "truncated", "gone", "of another run", "of other code"])
def test_the_index_is_never_believed_against_the_file(change: str, tmp_path: Path) -> None:
    """An edit that keeps the size and puts the time back is seen by the time of the change, which nobody can set."""
    a, other = a_job(tmp_path), a_job(tmp_path, seeds=[2])
    assert [work(a).ending, work(other).ending] == ["done", "done"]
    assert pool.split_done([a, other]) == ([a, other], [])
    path, before = storage.result_path(a.results, a.spec), storage.result_path(a.results, a.spec).stat()
    content = path.read_text()
    if change == "edited":
        with path.open("r+") as file:  # in place: the same inode
            file.write(content.replace('"visits": 12', '"visits": 13'))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
    elif change == "truncated":
        path.write_text(content[:-10])
    elif change == "gone":
        path.unlink()
    elif change == "of another run":
        path.write_bytes(storage.result_path(other.results, other.spec).read_bytes())
    else:
        result = json.loads(content)
        result["code"] = "0" * 16
        result["digest"] = storage.digest(result)
        path.write_text(json.dumps(result))
    assert pool.split_done([a, other]) == ([other], [a])
    assert look(a).state == look(a, Index(tmp_path)).state


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("how", ["", "{", "[]", "edited", "of another version"])
def test_an_index_that_is_in_doubt_is_made_anew(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = a_job(tmp_path)
    assert work(a).ending == "done"
    pool.split_done([a])
    path = Index(tmp_path).path
    content = json.loads(path.read_text())
    if how == "edited":
        for entry in content["entries"].values():
            entry[1]["code"] = "0" * 16
        path.write_text(json.dumps(content))
    elif how == "of another version":
        content["about"][1] = "0.0.0"
        path.write_text(json.dumps(content))
    else:
        path.write_text(how)
    paths = read_paths(monkeypatch)
    assert pool.split_done([a]) == ([a], [])
    assert len(paths) == 1
    assert Index(tmp_path).known


def test_a_file_of_this_moment_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might change once more within the same tick of the clock."""
    a = a_job(tmp_path)
    assert work(a).ending == "done"
    paths = read_paths(monkeypatch)
    pool.split_done([a])
    pool.split_done([a])
    assert len(paths) == 2


def test_a_table_reads_each_result_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedbench.runs.state import look as look_again

    a = a_job(tmp_path)
    assert work(a).ending == "done"
    paths = read_paths(monkeypatch)
    assert look_again(a).read(a).spec == a.spec
    assert len(paths) == 1


def test_of_very_many_seeds_some_are_tried_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr("fedbench.runs.comparison.make_partition", lambda *args: made.append(args[-1]))
    jobs = Comparison(methods=["fedavg", "local"], seeds=range(300), device="cpu", clients=5).jobs()
    check_possible(jobs)
    assert made == list(range(SEEDS_TRIED))
    check_possible([])
    monkeypatch.undo()
    jobs = Comparison(methods=["fedavg"], seeds=[1], device="cpu", clients=1797).jobs()
    with pytest.raises(BadInput):
        check_possible(jobs)


# ---------------------------------------------------------------- the watcher


def test_notes_are_found_by_one_look_at_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.progress").write_text('{"visits": 3}')
    (tmp_path / "b.progress").write_text("{")
    (tmp_path / "c.progress").write_text('{"visits": 4}')
    old(tmp_path / "c.progress")
    (tmp_path / "d.lock").touch()
    assert pool.notes_in(tmp_path) == {"a": {"visits": 3}, "c": {"visits": 4}}
    assert pool.notes_in(tmp_path, since=(tmp_path / "a.progress").stat().st_mtime - 10) == {"a": {"visits": 3}}
    assert pool.notes_in(tmp_path / "none") == {}


# ---------------------------------------------------------------- status


def test_status_tells_done_running_failed_and_missing(tmp_path: Path) -> None:
    """A note whose run holds its lock is running, wherever that is; one that nobody holds was left behind."""
    jobs = [a_job(tmp_path, seeds=[seed]) for seed in (1, 2, 3, 4, 5)]
    with announced(jobs):
        assert work(jobs[0]).ending == "done"
    storage.write_failure(tmp_path, jobs[1].spec, "ValueError: no")
    note = {"visits": 6, "total": 14, "seconds": 3.0, "best": 0.5, "name": "x", "where": "host, cpu", "since": 1.0}
    for a in jobs[2:4]:
        job.write_note(a, note)
    with FileLock(storage.work_path(tmp_path, jobs[2].spec, "lock")):
        storage.work_path(tmp_path, jobs[3].spec, "lock").touch()
        found = status(tmp_path)
    assert found.done == {("digits", "pfedhn-pc"): 1}
    assert [(each.identity, each.visits, each.total, each.where) for each in found.running] == [
        (jobs[2].spec.identity, 6, 14, "host, cpu")
    ]
    assert [(each.identity, each.message) for each in found.failed] == [(jobs[1].spec.identity, "ValueError: no")]
    assert [each.identity for each in found.missing] == [jobs[3].spec.identity, jobs[4].spec.identity]
    assert found.damaged == []
    # half a second a visit for 8 visits, and two runs of 14 visits like the one that is stored
    stored = storage.read(storage.result_path(tmp_path, jobs[0].spec))
    assert found.seconds_left == pytest.approx(8 * 0.5 + 2 * 14 * stored.last.seconds / 12)


def test_what_is_made_again_is_running_or_failed_although_it_has_a_result(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    assert work(a).ending == "done"
    note = {"visits": 6, "total": 14, "seconds": 3.0, "best": 0.5, "name": "x", "where": "host, cpu", "since": 1.0}
    keeping = a_job(tmp_path, keep_models=True)
    with announced([keeping]):
        job.write_note(a, note)
        with FileLock(storage.work_path(tmp_path, a.spec, "lock")):
            found = status(tmp_path)
            assert ([each.identity for each in found.running], found.done) == ([a.spec.identity], {})
        storage.work_path(tmp_path, a.spec, "progress").unlink()
        storage.write_failure(tmp_path, a.spec, "ValueError: no")
        assert [each.message for each in status(tmp_path).failed] == ["ValueError: no"]
    assert len(list(tmp_path.rglob("*.plan"))) == 1  # its models are not there
    assert work(keeping).ending == "done"
    with announced([keeping]):
        assert status(tmp_path).failed == []
    assert not list(tmp_path.rglob("*.plan"))


def test_how_long_a_run_takes_is_not_told_from_one_of_another_network(tmp_path: Path) -> None:
    speeds = Speeds([Facts("a", "f", "", None, {}, None, "", None, (), ("cpu", "mlp", "digits", "fedavg"), 10, 5.0)])
    assert speeds.seconds(("cpu", "mlp", "digits", "fedavg"), 20) == 10.0
    assert speeds.seconds(("cpu", "mlp", "mnist", "local"), 20) == 10.0
    assert speeds.seconds(("cpu", "lenet", "cifar10", "fedavg"), 20) is None


def test_a_plan_goes_when_all_of_it_is_done(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    with announced([a]):
        assert [each.identity for each in status(tmp_path).missing] == [a.spec.identity]
        assert status(tmp_path).seconds_left is None  # nothing like it is stored
        assert work(a).ending == "done"
    assert not list(tmp_path.rglob("*.plan"))
    found = status(tmp_path)
    assert (found.missing, found.running, found.failed, found.seconds_left) == ([], [], [], 0.0)
    with pytest.raises(BadInput, match="there is no such folder"):
        status(tmp_path / "none")


def test_a_run_that_a_longer_one_answers_is_not_missing(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"methods": ["fedavg"], "novel_clients": 0, "adapt_visits": None, "settings": {}}
    short, long = (a_job(tmp_path, visits=visits, **changes) for visits in (10, 12))
    with announced([short]):
        assert [each.identity for each in status(tmp_path).missing] == [short.spec.identity]
        assert work(long).ending == "done"
        assert pool.split_done([short]) == ([short], [])
        assert status(tmp_path).missing == []


@pytest.mark.parametrize("visits", [10, 12], ids=["its own", "a longer one"])
def test_a_result_that_is_to_be_made_again_leaves_the_run_missing(visits: int, tmp_path: Path) -> None:
    """As after an edit of a method: what was there when a run was planned does not answer for it."""
    changes: dict[str, Any] = {"methods": ["fedavg"], "novel_clients": 0, "adapt_visits": None, "settings": {}}
    short, stored = (a_job(tmp_path, visits=each, **changes) for each in (10, visits))
    assert work(stored).ending == "done"
    path = storage.result_path(tmp_path, stored.spec)
    result = json.loads(path.read_text()) | {"code": "0" * 16}
    path.write_text(json.dumps(result | {"digest": storage.digest(result)}))
    old(path)
    with announced([short]):
        found = status(tmp_path)
        assert [each.identity for each in found.missing] == [short.spec.identity]
        assert sum(found.done.values()) == (visits > 10)
        assert work(short).ending == "done"
        assert status(tmp_path).missing == []
        assert sum(status(tmp_path).done.values()) == 1 + (visits > 10)
    assert not list(tmp_path.rglob("*.plan"))


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[[]]", "[null]", '"text"', '{"a": 1}', "5", "[" * 100_000, '[["a", "b", "c", 1, 2, "four", "e", 3]]'],
)
def test_what_no_process_wrote_is_no_plan_and_no_note(text: str, tmp_path: Path) -> None:
    """It disturbs neither who looks nor who runs something beside it."""
    a = a_job(tmp_path)
    (tmp_path / storage.WORK).mkdir()
    for name in ("other.plan", "other.progress"):
        (tmp_path / storage.WORK / name).write_text(text)
    with announced([a]):
        found = status(tmp_path)
    assert a.spec.identity in [each.identity for each in found.missing]
    assert found.running == []


@pytest.mark.parametrize("wrong", [{"best": "0.5"}, {"since": "NaN"}, {"seconds": 1e999}, {"visits": None}])
def test_a_note_with_what_is_no_number_is_no_note(wrong: dict[str, Any], tmp_path: Path) -> None:
    a = a_job(tmp_path)
    note = {"visits": 6, "total": 14, "seconds": 3.0, "best": None, "name": "x", "where": "host, cpu", "since": 1.0}
    (tmp_path / storage.WORK).mkdir()
    job.write_note(a, note)
    with FileLock(storage.work_path(tmp_path, a.spec, "lock")):
        assert len(status(tmp_path).running) == 1
        job.write_note(a, {**note, **wrong})
        assert status(tmp_path).running == []


# ---------------------------------------------------------------- states in a file


def state(client: int, size: int = 100) -> dict[str, torch.Tensor]:
    """Names out of order, other strides, other types, a view of something larger."""
    rng = torch.Generator().manual_seed(client)
    large = torch.randn(4, size, generator=rng)
    image = torch.randn(2, 3, 4, 5, generator=rng).to(memory_format=torch.channels_last)
    return {"z": large[1], "a": image, "n": torch.tensor(client), "d": torch.randn(3, generator=rng).double()}


def same(a: tree.Tree, b: tree.Tree) -> bool:
    alike = [list(a) == list(b)]
    alike += [torch.equal(a[n], b[n]) and a[n].stride() == b[n].stride() and a[n].dtype == b[n].dtype for n in a]
    return all(alike)


@pytest.mark.parametrize("limit", [0, 2500, 10**9])
def test_a_spill_is_a_dict(limit: int, tmp_path: Path) -> None:
    """The same calls on both, with more states than fit: the same clients in the same order, and the same bits."""
    rng = np.random.default_rng(1)
    plain: dict[int, tree.Tree] = {}
    states = Spill({}, tmp_path, limit)
    for step in range(200):
        client = int(rng.integers(12))
        if rng.random() < 0.25:
            assert (states.pop(client, None) is None) == (plain.pop(client, None) is None)
        else:
            plain[client] = states[client] = state(100 * step + client, 100 + client % 2)
        assert list(states) == list(plain)
        assert len(states) == len(plain)
        assert bool(states) == bool(plain)
        assert states.size <= max(limit, 0)
    assert all(same(states[client], plain[client]) for client in plain)
    assert states.get(77, {}) == {}
    if limit == 0:
        assert states.end <= 13 * len(spill.packed(state(1, 101)))  # places are used again
    assert list(tmp_path.iterdir()) == []  # the file has no name


@pytest.mark.parametrize("limit", [0, 2500, 10**9])
def test_a_checkpoint_holds_the_states_that_wait_in_a_file(limit: int, tmp_path: Path) -> None:
    plain = {client: state(client) for client in (3, 1, 2, 9)}
    progress = Progress(server={"w": torch.ones(2)}, clients=Spill(plain, tmp_path, limit))  # type: ignore[arg-type]
    path = tmp_path / "checkpoint"
    checkpoint.save(path, progress, {})
    found, refusal = checkpoint.load(path, {}, torch.device("cpu"))
    assert refusal == ""
    assert found is not None
    assert list(found.clients) == [3, 1, 2, 9]
    assert all(same(found.clients[client], plain[client]) for client in plain)
    content = path.read_bytes()
    place = content.index(plain[1]["z"].numpy().tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert checkpoint.load(path, {}, torch.device("cpu"))[0] is None


@pytest.mark.parametrize("method", ["local", "lg-fedavg", "pfedme"])
def test_a_run_whose_states_do_not_fit_has_the_same_numbers(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it goes on from a checkpoint, three times."""
    changes: dict[str, Any] = {"methods": [method]}
    changes["settings"] = {f"{method}.local.steps": "2", f"{method}.clients_per_round": "1"}
    straight = a_job(tmp_path / "straight", **changes)
    assert work(straight).ending == "done"
    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    monkeypatch.setattr(Spill.__init__, "__defaults__", (0,))
    small = a_job(tmp_path / "small", **changes)

    class After:
        def __init__(self, looks: int) -> None:
            self.looks = looks

        def exists(self) -> bool:
            self.looks -= 1
            return self.looks < 0

    endings = [job.work(small, After(looks), os.getpid(), wait=False).ending for looks in (4, 3, 3)]
    assert endings == ["stopped"] * 3
    assert work(small).ending == "done"
    paths = [storage.result_path(a.results, a.spec) for a in (straight, small)]
    assert numbers(paths[0]) == numbers(paths[1])


@linux
def test_a_full_disk_ends_a_run_and_takes_its_checkpoint_from_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states are whole in memory or in the file; a checkpoint that finds no room is no damaged one."""
    path = tmp_path / "checkpoint"
    checkpoint.save(path, Progress(server={}, clients=Spill({1: state(1)}, tmp_path)), {})  # type: ignore[arg-type]
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Path("/dev/full").open("r+b", buffering=0))  # noqa: SIM115
    states = Spill({}, tmp_path, limit=0)
    with pytest.raises(BadInput, match="No space left on device; make room and run the same command again"):
        states[3] = state(3)
    assert same(states[3], state(3))
    monkeypatch.setattr(Spill.__init__, "__defaults__", (0,))
    with pytest.raises(BadInput, match="No space left on device"):
        checkpoint.load(path, {}, torch.device("cpu"))


# ---------------------------------------------------------------- samples that processes share


def cached(root: Path, content: int = 0) -> plugins.Plugin:
    """A data set in a file, as a plug-in."""
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(content)
    arrays: dict[str, Any] = {}
    for split, rows in (("train", 500), ("test", 100)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(rows) % 10
    np.savez(root / "cifar10.npz", **arrays)
    return plugins.find_dataset("cifar10")


def alike(a: Data, b: Data) -> bool:
    assert a.test is not None
    assert b.test is not None
    tensors = ((a.images, b.images), (a.labels, b.labels), (a.test, b.test))
    return all(torch.equal(x, y) and x.stride() == y.stride() for x, y in tensors) and (a.mean, a.classes) == (
        b.mean,
        b.classes,
    )


def test_shared_samples_are_the_samples(tmp_path: Path) -> None:
    dataset = cached(tmp_path)
    straight = dataset.cls().load(tmp_path)
    for _ in range(2):  # made, and found
        data, name = mapped.load(dataset, tmp_path)
        assert alike(data, straight)
        assert name == mapped.fingerprint(straight)
    (path,) = tmp_path.glob(".cifar10-*.mapped")
    if Path("/proc/self/maps").exists():
        lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
        assert lines


def test_other_samples_are_other_samples(tmp_path: Path) -> None:
    """A file that was replaced, also by one of the same size, is mapped anew, and the old mapping goes."""
    first = mapped.load(cached(tmp_path), tmp_path)[1]
    dataset = cached(tmp_path, content=1)
    data, second = mapped.load(dataset, tmp_path)
    assert first != second
    assert alike(data, dataset.cls().load(tmp_path))
    assert len(list(tmp_path.glob(".cifar10-*.mapped"))) == 1


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("indexed", [True, False])
def test_a_result_of_other_samples_is_outdated(indexed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the file of the samples is here to compare with; a longer run of others answers for nothing either."""
    root = tmp_path / "data"
    monkeypatch.setattr(cached(root).cls, "validation_rows", 100)
    long, short = (
        a_job(
            tmp_path,
            methods=["local"],
            dataset="cifar10",
            data_root=root,
            settings={"local.local.steps": 1},
            novel_clients=0,
            adapt_visits=None,
            visits=visits,
            evaluate_every=5,
        )
        for visits in (10, 5)
    )

    def states() -> list[str]:
        return [look(each, Index(tmp_path) if indexed else None).state for each in (long, short)]

    assert states() == ["missing", "missing"]
    assert work(long).ending == "done"
    for path in root.glob(".*"):
        path.unlink()
    assert states() == ["done", "done"]
    assert list(root.iterdir()) == [root / "cifar10.npz"]  # who only looks leaves no copy
    assert states() == ["done", "done"]
    cached(root)  # written once more: the same samples
    assert states() == ["done", "done"]
    cached(root, content=1)
    assert states() == ["outdated", "missing"]
    assert pool.split_done([long, short]) == ([], [long, short])
    was = storage.read(storage.result_path(tmp_path, long.spec)).samples
    assert work(long).ending == "done"
    assert storage.read(storage.result_path(tmp_path, long.spec)).samples not in (was, None)
    assert states() == ["done", "done"]
    (root / "cifar10.npz").write_bytes(b"damaged")
    assert states() == ["done", "done"]
    (root / "cifar10.npz").unlink()
    assert states() == ["done", "done"]


def test_a_damaged_mapping_is_made_anew_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    dataset = cached(tmp_path)
    expected = mapped.load(dataset, tmp_path)[0].images.clone()
    (path,) = tmp_path.glob(".cifar10-*.mapped")
    content = path.read_bytes()
    path.unlink()  # and not written over: a process may have it in its memory
    path.write_bytes(content[:100_000] + bytes([content[100_000] ^ 1]) + content[100_001:])
    assert torch.equal(mapped.load(dataset, tmp_path)[0].images, expected)
    (tmp_path / "cifar10.npz").write_bytes((tmp_path / "cifar10.npz").read_bytes()[:1000])
    with pytest.raises(BadInput, match="cannot be used"):
        mapped.load(dataset, tmp_path)


def test_a_folder_that_cannot_be_written_to_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = cached(tmp_path)

    def refuse(path: Path) -> Any:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(mapped, "replacing", refuse)
    assert alike(mapped.load(dataset, tmp_path)[0], dataset.cls().load(tmp_path))


@linux
def test_a_full_disk_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch does not call it an OSError."""
    monkeypatch.setattr(mapped, "replacing", lambda path: Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115
    dataset = cached(tmp_path)
    assert alike(mapped.load(dataset, tmp_path)[0], dataset.cls().load(tmp_path))


def test_a_mapping_that_is_there_needs_no_lock_and_is_not_that_of_another_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be one that others have written, and cannot be written to."""
    other = tmp_path / ".cifar10-grey-0123456789abcdef.mapped"
    other.touch()
    dataset = cached(tmp_path)
    mapped.load(dataset, tmp_path)
    assert other.exists()
    monkeypatch.setattr(mapped, "FileLock", None)
    assert alike(mapped.load(dataset, tmp_path)[0], dataset.cls().load(tmp_path))
