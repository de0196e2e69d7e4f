"""Killed at any point, nothing is lost: what is run again ends with the numbers of a run that was left alone.

Quick tests work in this process; the slow ones kill, stop and double real `fedbench run` processes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.runs import checkpoint, job
from fedbench.runs.comparison import Comparison, check_writable
from fedbench.runs.job import Job, Outcome
from fedbench.runs.state import look
from fedbench.runs.verify import Verdict, verify
from fedbench.training import Engine, Progress

METHODS = "pfedhn-pc,lg-fedavg,fedper,pfedhn,local"  # all but the last but one keep something on the clients
COMMAND = (
    sys.executable,
    "-c",
    "from fedbench.cli import main; main()",
    "run",
    "--device",
    "cpu",
    "--dataset",
    "digits",
)


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """A run sets deterministic algorithms for its process."""
    yield
    torch.use_deterministic_algorithms(False)


def numbers(path: Path) -> Any:
    """A result without times and host facts."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "provenance")}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    assert storage.read(path).digest  # it is whole, and its numbers match its digest
    return timeless(json.loads(path.read_text()))


def all_numbers(results: Path) -> dict[str, Any]:
    return {str(path.relative_to(results)): numbers(path) for path in storage.files(results)}


COUNTED = '''
"""FedAvg that notes every visit in a file, to see what work is done."""

import os
from dataclasses import dataclass

from fedbench.methods.fedavg import FedAvg


@dataclass(frozen=True, kw_only=True)
class Counted(FedAvg):
    """FedAvg."""

    title = "Counted"
    paper = "none"

    def client_train(self, message, state, batches):
        handle = os.open(os.path.join(os.path.dirname(__file__), "visits"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b"visit\\n")
        os.close(handle)
        return super().client_train(message, state, batches)
'''


# ---------- in this process


def a_job(results: Path, **changes: Any) -> Job:
    settings: dict[str, Any] = {
        "methods": ["pfedhn-pc"],
        "seeds": [1],
        "clients": 5,
        "novel_clients": 1,
        "adapt_visits": 2,
        "visits": 12,
        "evaluate_every": 4,
        "settings": {"pfedhn-pc.local.steps": "2"},
        "device": "cpu",
        "checkpoint_every": 0.0,
    }
    return Comparison(results=results, **{**settings, **changes}).jobs()[0]


def work(a: Job) -> Outcome:
    return job.work(a, a.results / "no-such-stop-file", os.getpid(), wait=False)


def done(a: Job) -> Any:
    """The numbers of `a`, run to its end."""
    outcome = work(a)
    assert outcome.ending == "done", outcome
    return numbers(storage.result_path(a.results, a.spec))


class PowerCut(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


def cut(a: Job, rounds: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run `a` until so many rounds are over and checkpointed; the checkpoint."""
    original = Engine.round

    def round_(engine: Engine, progress: Progress) -> None:
        if progress.round == rounds:
            raise PowerCut
        original(engine, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "round", round_)
        with pytest.raises(PowerCut):
            work(a)
    return storage.work_path(a.results, a.spec, "checkpoint")


def test_a_cut_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the 7th of 12 rounds only five are left to do; nothing stays behind but the lock."""
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "cut")
    path = cut(a, 7, monkeypatch)
    assert look(a).state == "started"
    for name in (f".{path.name}.ab12.partial", f"{path.stem}.progress.77.partial"):  # of writes that were cut
        path.with_name(name).touch()
    rounds, original = [], Engine.round

    def counted(engine: Engine, progress: Progress) -> None:
        rounds.append(progress.round)
        original(engine, progress)

    monkeypatch.setattr(Engine, "round", counted)
    assert done(a) == expected
    assert rounds == [7, 8, 9, 10, 11]
    assert not path.exists()
    assert [file.suffix for file in path.parent.iterdir()] == [".lock"]


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "bit-flipped":
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    elif how == "not-a-checkpoint":
        path.write_bytes(b"hello")
    elif how == "pickle-bomb":
        bomb = b"cos\nsystem\n(S'touch " + str(path.parent / "bitten").encode() + b"'\ntR."
        path.write_bytes(bomb)
    else:
        known = {"spec": {}, "code": "", "software": {}, "partition": "", **json.loads(how)}
        checkpoint.save(path, Progress(server={}), known)


@pytest.mark.parametrize(
    ("how", "warning"),
    [
        ("truncated", "damaged"),
        ("empty", "damaged"),
        ("bit-flipped", "damaged"),
        ("not-a-checkpoint", "damaged"),
        ("pickle-bomb", "damaged"),
        ("{}", "made with another family, visits, code, dataset_code, codes, software, instruction_set, partition"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_a_fresh_start_with_a_warning(
    how: str, warning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "damaged", checkpoint_every=1000.0)
    path = cut(a_job(tmp_path / "damaged"), 5, monkeypatch)
    damage(path, how)
    outcome = work(a)
    assert outcome.ending == "done"
    assert warning in outcome.warnings[0]
    assert "starts afresh" in outcome.warnings[0]
    assert numbers(storage.result_path(a.results, a.spec)) == expected
    assert not (path.parent / "bitten").exists()


@pytest.mark.parametrize("key", ["spec", "code", "software", "partition"])
def test_a_checkpoint_is_used_only_by_the_run_that_it_belongs_to(key: str, tmp_path: Path) -> None:
    """Each of the four facts is enough to refuse it, and none of them differing is needed to take it."""
    path, facts = (
        tmp_path / "checkpoint",
        {"spec": {"seed": 1}, "code": "a", "software": {"torch": "2"}, "partition": "b"},
    )
    checkpoint.save(path, Progress(server={"w": torch.ones(2)}), facts)
    progress, refusal = checkpoint.load(path, {**facts, key: {"seed": 2}}, torch.device("cpu"))
    assert progress is None
    assert refusal == f"it was made with another {key}"
    progress, refusal = checkpoint.load(path, facts, torch.device("cpu"))
    assert progress is not None
    assert refusal == ""


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, {}, torch.device("cpu")) == (None, "it cannot be read (Is a directory)")
    assert checkpoint.load(tmp_path / "none", {}, torch.device("cpu")) == (None, "")


def test_valid_checksums_do_not_make_a_pickle_welcome(tmp_path: Path) -> None:
    """A file that is whole, but has code to run inside, is refused and its code not run."""

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "bitten",)

    path = tmp_path / "checkpoint"
    torch.save({"belongs_to": {}, "progress": Bomb()}, path)
    progress, refusal = checkpoint.load(path, {}, torch.device("cpu"))
    assert progress is None
    assert "cannot be loaded" in refusal
    assert not (tmp_path / "bitten").exists()


def full_disk(monkeypatch: pytest.MonkeyPatch, suffix: str, number: int = errno.ENOSPC) -> None:
    """Writing any file whose name ends so fails half way, as on a full disk."""
    original = os.fsync

    def fsync(handle: int) -> None:
        name = str(Path(f"/proc/self/fd/{handle}").readlink())
        if re.sub(r"\.[^.]*\.partial$", "", name).endswith(suffix):
            os.ftruncate(handle, 100)
            raise OSError(number, os.strerror(number))
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks a file's name up in /proc")


@linux
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["full-disk", "read-only"])
def test_without_room_for_checkpoints_a_run_goes_on_with_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "full")
    full_disk(monkeypatch, ".checkpoint", number)
    outcome = work(a)
    assert outcome.ending == "done"
    assert len(outcome.warnings) == 1
    assert os.strerror(number) in outcome.warnings[0]
    assert numbers(storage.result_path(a.results, a.spec)) == expected


def test_a_disk_that_fills_up_while_a_checkpoint_is_written_is_a_warning_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch writes many small pieces, and makes an error of its own of one that cannot be written."""
    expected = done(a_job(tmp_path / "straight"))
    original = checkpoint.replacing

    @contextlib.contextmanager
    def small(path: Path) -> Iterator[Any]:
        with original(path) as file:

            class Full:
                def write(self, content: bytes) -> int:
                    if file.tell() + len(content) > 1000:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    return file.write(content)

                def flush(self) -> None:
                    file.flush()

            yield Full()

    monkeypatch.setattr(checkpoint, "replacing", small)
    a = a_job(tmp_path / "full")
    outcome = work(a)
    assert outcome.ending == "done"
    assert os.strerror(errno.ENOSPC) in outcome.warnings[0]
    assert numbers(storage.result_path(a.results, a.spec)) == expected
    assert not list(a.results.rglob("*.partial"))


def test_a_stop_is_heard_while_unseen_clients_adapt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the run ends as if it had not been stopped, once it is started again."""
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "stopped", checkpoint_every=1000.0)
    stop_file, original = tmp_path / "stop", job.adapt

    def stopped(*args: Any, **kwargs: Any) -> Any:
        stop_file.touch()
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(job, "adapt", stopped)
        assert job.work(a, stop_file, os.getpid(), wait=False).ending == "stopped"
    assert list(storage.files(a.results)) == []
    assert done(a) == expected


def test_a_run_that_diverged_says_so(tmp_path: Path) -> None:
    """It is stored as it is, with losses that are no numbers, and can be read back."""
    settings = {"fedavg.local.lr": "1e30", "fedavg.local.max_norm": "1e30", "fedavg.local.steps": "2"}
    a = a_job(tmp_path, methods=["fedavg"], settings=settings)
    outcome = work(a)
    assert outcome.ending == "done"
    assert outcome.warnings == ("training diverged: its losses are no numbers; the score is of visit 0",)
    stored = storage.read(storage.result_path(a.results, a.spec))
    assert stored.diverged
    assert stored.best.visits == 0


def test_what_cannot_be_tidied_up_does_no_harm(tmp_path: Path) -> None:
    """A folder in the place of a checkpoint, and the record of an earlier failure."""
    a = a_job(tmp_path)
    storage.work_path(a.results, a.spec, "checkpoint").mkdir(parents=True)
    storage.write_failure(a.results, a.spec, "an earlier one")
    outcome = work(a)
    assert outcome.ending == "done"
    assert not storage.work_path(a.results, a.spec, "error").exists()
    storage.write_failure(a.results, a.spec, "of a second process, that was too late")
    assert work(a).ending == "done"
    assert not storage.work_path(a.results, a.spec, "error").exists()


@linux
def test_without_room_for_the_result_a_run_fails_clearly_and_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half result is left; once there is room the run ends, from its last checkpoint, with the same numbers."""
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "full")
    with monkeypatch.context() as patch:
        full_disk(patch, ".json")
        outcome = work(a)
    assert outcome.ending == "failed"
    assert os.strerror(errno.ENOSPC) in outcome.message
    assert list(storage.files(a.results)) == []
    assert not list(a.results.rglob("*.partial"))
    assert done(a) == expected


def test_results_that_cannot_be_written_are_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadInput, match=r"results cannot be written to .*file.*; choose another --results"):
        check_writable(tmp_path / "file" / "results")


def test_looking_whether_results_can_be_written_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that looks at the same time may have taken the trial file away."""
    original = storage.write_bytes

    def write_bytes(path: Path, content: bytes) -> None:
        original(path, content)
        path.unlink()

    monkeypatch.setattr("fedbench.storage.disk.write_bytes", write_bytes)
    check_writable(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\x00\x01"])
def test_a_damaged_result_is_made_again(text: str, tmp_path: Path) -> None:
    a = a_job(tmp_path)
    expected = done(a)
    path = storage.result_path(a.results, a.spec)
    path.write_text(text)
    assert look(a).state == "damaged"
    assert done(a) == expected


def test_a_result_of_another_program_is_made_again(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    expected = done(a)
    path = storage.result_path(a.results, a.spec)
    result = json.loads(path.read_text())
    result["code"] = "0" * 16
    result["digest"] = storage.digest(result)
    path.write_text(json.dumps(result))
    assert look(a).state == "outdated"
    assert done(a) == expected


def test_the_result_of_another_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """A file that was copied to the wrong name is whole and of the same code, and is still not this run's."""
    a, other = a_job(tmp_path), a_job(tmp_path, seeds=[2])
    expected = done(a)
    done(other)
    path = storage.result_path(a.results, a.spec)
    path.write_bytes(storage.result_path(other.results, other.spec).read_bytes())
    assert look(a).state == "outdated"
    assert done(a) == expected


# ---------- fedbench verify


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The result at `path` with a change and a digest that fits, beside it."""
    result = json.loads(path.read_text())
    change(result)
    result["digest"] = storage.digest(result)
    copy = path.with_name("edited.json")
    copy.write_text(json.dumps(result))
    return copy


def test_verify_says_equal_or_where_it_first_differs(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    done(a)
    path = storage.result_path(a.results, a.spec)
    assert verify(path) == Verdict(True)
    before = sorted(tmp_path.rglob("*"))

    def change(result: dict[str, Any]) -> None:
        result["history"][2]["val_loss"] += 1e-9
        result["history"][3]["seconds"] = 1e9
        result["best"]["test"]["correct"][0] -= 1

    verdict = verify(edited(path, change))
    assert (verdict.equal, verdict.place) == (False, "history.2.val_loss")
    assert str(verdict).startswith("different: history.2.val_loss is ")
    shorter = verify(edited(path, lambda result: result["history"].pop()))
    assert (shorter.place, shorter.stored, shorter.found) == ("the length of history", 3, 4)
    tested = verify(edited(path, lambda result: result["unseen"]["best"]["test"]["loss"].reverse()))
    assert tested.equal  # there is one unseen client
    edited(path, lambda result: None).unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_verify_tells_what_else_is_not_as_it_was(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    done(a)

    def change(result: dict[str, Any]) -> None:
        result["code"] = "0" * 16
        result["provenance"]["software"]["torch"] = "1.0"

    text = str(verify(edited(storage.result_path(a.results, a.spec), change)))
    assert text.startswith("equal: ")
    assert "the method's source is not that of the stored run; torch is " in text
    assert text.endswith("and was 1.0")


def test_verify_runs_a_plug_in_given_by_file(tmp_path: Path) -> None:
    plugin = tmp_path / "mine_alone.py"
    plugin.write_text(COUNTED)
    a = a_job(tmp_path / "results", methods=[str(plugin)], settings={"mine-alone.local.steps": "2"})
    done(a)
    path = storage.result_path(a.results, a.spec)
    assert verify(path, method=str(plugin)).equal
    with pytest.raises(BadInput, match="there is no method called 'mine-alone'"):
        verify(path)
    with pytest.raises(BadInput, match="is a run of the method 'mine-alone', and fedavg is another one"):
        verify(path, method="fedavg")


def test_verify_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        verify(tmp_path / "none.json")
    a = a_job(tmp_path)
    done(a)
    path = storage.result_path(a.results, a.spec)
    with pytest.raises(BadInput, match="cannot be made again"):
        verify(edited(path, lambda result: result["spec"].update(network="no-such-network")))


# ---------- real processes


def arguments(
    results: Path, methods: str = METHODS, visits: int = 80, checkpoint_every: float = 0, jobs: int = 1
) -> list[str]:
    """`fedbench run` with one client a round and two steps a visit, so that there are many moments to die at."""
    settings = [
        f"--set={name}.{setting}" for name in methods.split(",") for setting in ("clients_per_round=1", "local.steps=2")
    ]
    return [
        *COMMAND,
        f"--methods={methods}",
        f"--results={results}",
        f"--visits={visits}",
        f"--checkpoint-every={checkpoint_every}",
        f"--jobs={jobs}",
        "--clients=5",
        "--novel-clients=1",
        "--adapt-visits=2",
        "--seeds=1",
        *settings,
    ]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    output, _ = process.communicate()
    assert process.returncode == status, output
    return output


def wait_for_checkpoint(results: Path, process: subprocess.Popen[str], after: float = 0.0) -> bool:
    """Wait until a checkpoint is written that is newer than `after`; false where the process ended before."""
    while process.poll() is None:
        times = []
        for path in (results / storage.WORK).glob("*.checkpoint"):
            try:
                times.append(path.stat().st_mtime)
            except FileNotFoundError:
                continue
        if max(times, default=0.0) > after:
            return True
        time.sleep(0.005)
    return False


def assert_tidy(results: Path) -> None:
    """Nothing is left but results and locks."""
    left = [path.name for path in results.rglob("*") if path.suffix not in (".json", ".lock") and path.is_file()]
    assert [name for name in left if "writable" not in name] == []  # the trial file of a start that was killed


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The numbers of an undisturbed run of all METHODS."""
    results = tmp_path_factory.mktemp("straight")
    finish(start(arguments(results, checkpoint_every=1000)))
    found = all_numbers(results)
    assert len(found) == len(METHODS.split(","))
    return found


@pytest.mark.slow
def test_killed_twenty_times_it_ends_with_the_same_numbers(tmp_path: Path, straight: dict[str, Any]) -> None:
    """SIGKILL at random moments: most a little after a checkpoint, some at any time at all."""
    moments = random.Random(7)
    kills = 0
    while kills < 20:
        began = time.time()
        process = start(arguments(tmp_path))
        if kills % 6 == 5:
            time.sleep(moments.uniform(0, 4))
        else:
            assert wait_for_checkpoint(tmp_path, process, after=began), process.communicate()[0]
            time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        kills += 1
        for path in storage.files(tmp_path):  # whatever is there is whole
            assert numbers(path) == straight[str(path.relative_to(tmp_path))]
    finish(start(arguments(tmp_path)))
    assert all_numbers(tmp_path) == straight
    assert_tidy(tmp_path)


DRIVER = """
import os, random, sys
from pathlib import Path
import pandas, sklearn.datasets, torch  # once, so that a life begins at once
from fedbench import cli, plugins, storage
from fedbench.runs import comparison, display, pool, prepare
from fedbench.reporting import terminal

arguments, moments = sys.argv[1:], random.Random(11)


def live_until(count, share):
    # the process dies in its count-th file, when that share of the bytes is out, or right before or after the move
    files, path_open, replace = [0], Path.open, Path.replace

    class Dying:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def flush(self):
            self.file.flush()
            if files[0] == count and share < 1:
                self.file.truncate(int(share * self.file.tell()))
                os._exit(9)

    def dying_replace(self, target):
        if files[0] == count and 1 <= share < 1.2:
            os._exit(9)
        result = replace(self, target)
        if files[0] == count and share >= 1.2:
            os._exit(9)
        return result

    def dying_open(self, mode="r", *args, **kw):
        file = path_open(self, mode, *args, **kw)
        if mode != "xb":
            return file
        files[0] += 1
        return Dying(file)

    Path.open = dying_open
    Path.replace = dying_replace


deaths = 0
while True:
    child = os.fork()
    if child == 0:
        live_until(moments.randint(2, 36), moments.uniform(0, 1.4))
        sys.argv = arguments
        sys.stdout = open(os.devnull, "w")
        try:
            cli.main()
        except SystemExit as error:
            os._exit(error.code or 0)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 9:
        deaths += 1
        continue
    print(status, deaths)
    sys.exit(status)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process that is already loaded")
def test_death_in_the_middle_of_a_write_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, straight: dict[str, Any]
) -> None:
    """Each life ends in a random file, at a random byte or around the move, until one reaches the end."""
    command = arguments(tmp_path)
    process = start([sys.executable, "-c", DRIVER, "fedbench", *command[len(COMMAND[:3]) :]])
    status, deaths = finish(process).splitlines()[-1].split()
    assert status == "0"
    assert int(deaths) >= 12
    assert all_numbers(tmp_path) == straight
    assert_tidy(tmp_path)


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path, straight: dict[str, Any]) -> None:
    """The interval between checkpoints is long: the one that is there is Ctrl-C's."""
    process = start(arguments(tmp_path, checkpoint_every=1000))
    progress = tmp_path / storage.WORK
    while not list(progress.glob("*.progress")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output = finish(process, status=130)
    assert "the same command goes on from here" in output
    assert list(progress.glob("*.checkpoint"))
    assert not list(progress.glob("stop-*"))
    finish(start(arguments(tmp_path)))
    assert all_numbers(tmp_path) == straight


@pytest.mark.slow
def test_two_jobs_give_the_bits_of_one(tmp_path: Path, straight: dict[str, Any]) -> None:
    finish(start(arguments(tmp_path, jobs=2)))
    assert all_numbers(tmp_path) == straight


@pytest.mark.slow
def test_two_processes_share_the_work_and_both_end_well(tmp_path: Path) -> None:
    """Both are started on the same three runs of 60 visits; 180 visits are made, not 360."""
    plugin = tmp_path / "counted.py"
    plugin.write_text(COUNTED)
    results = tmp_path / "results"
    command = [
        *COMMAND,
        f"--methods={plugin}",
        f"--results={results}",
        "--visits=60",
        "--seeds=1,2,3",
        "--jobs=1",
        "--clients=5",
    ]
    for output in [finish(process) for process in [start(command), start(command)]]:
        assert "Counted" in output
    assert len(list(storage.files(results))) == 3
    assert (tmp_path / "visits").read_text().count("visit") == 180
    output = finish(start(command))
    assert "3 of 3 runs are done already" in output
    assert (tmp_path / "visits").read_text().count("visit") == 180
