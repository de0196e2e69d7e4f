"""A real scheduler and real worker processes on 127.0.0.1: the bits are those of a local run, whatever dies.

Two of the three workers see the results and the plug-in's file, the third sees neither: paths begin with the folder
that a process works in, `/proc/self/cwd`, and it works in another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_runs import all_numbers, finish, start
from typer.testing import CliRunner

import fedbench
from fedbench import plugins, storage
from fedbench.cli import app
from fedbench.errors import BadInput
from fedbench.runs import cluster, on_worker, plugin_files, pool, scheduler
from fedbench.runs.comparison import Comparison
from fedbench.runs.console import new_console
from fedbench.runs.estimate import show_plan
from fedbench.runs.execution import workers_for
from fedbench.runs.job import Job, Outcome
from fedbench.runs.prepare import make_partition
from fedbench.runs.status import announced
from fedbench.runs.workers import Workers

distributed = pytest.importorskip("distributed")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="paths through /proc")

HERE = Path("/proc/self/cwd")
PLUGIN = '''
"""FedAvg, slowly."""

import os
import signal
import time
from dataclasses import dataclass

from fedbench.methods.fedavg import FedAvg


@dataclass(frozen=True, kw_only=True)
class {name}(FedAvg):
    """FedAvg."""

    title = "{name}"
    paper = "none"

    def client_train(self, message, state, batches):
        {body}
        return super().client_train(message, state, batches)
'''
TINY = '''
"""A data set in a file."""

from pathlib import Path

import numpy as np
import torch

from fedbench.dataset import Data, Dataset


class Tiny(Dataset):
    """Noise."""

    title = "Tiny"
    source = "none"
    network = "mlp-digits"

    def load(self, root: Path) -> Data:
        images = np.load(root / "tiny.npz")["images"]
        labels = torch.arange(len(images)) % 10
        return Data(images=torch.from_numpy(images).unsqueeze(1), labels=labels, classes=10, mean=(0.5,), std=(0.5,))
'''


def plugin(folder: Path, name: str, body: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(PLUGIN.format(name=name.capitalize(), body=body))
    return path


def environment(**more: str) -> dict[str, str]:
    root = str(Path(fedbench.__file__).parent.parent)
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([root, *sys.path]), **more}


class Cluster:
    """A scheduler, and workers that are started with nannies, which start a worker again that dies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, list[subprocess.Popen[str]]()
        file = folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        self.start("scheduler", options, folder)
        while not file.is_file() or not file.read_text().strip():
            assert self.processes[0].poll() is None, (folder / "0.log").read_text()
            time.sleep(0.05)
        self.file = str(file)

    def start(self, what: str, options: Sequence[str], cwd: Path, **more: str) -> subprocess.Popen[str]:
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *options]
            process = subprocess.Popen(
                command, cwd=cwd, env=environment(**more), stdout=log, stderr=subprocess.STDOUT, text=True
            )
        self.processes.append(process)
        return process

    def worker(self, cwd: Path, *options: str, **more: str) -> subprocess.Popen[str]:
        fixed = ["--scheduler-file", self.file, "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
        scratch = ["--local-directory", str(self.folder / "scratch")]
        return self.start("worker", [*fixed, *scratch, *options], cwd, **more)

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        with distributed.Client(scheduler_file=self.file, set_as_default=False) as client:
            yield client

    def wait_for(self, workers: int) -> None:
        with self.client() as client:
            client.wait_for_workers(workers, timeout=120)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers; the third one works in a folder where there is nothing, and has other samples of `tiny`."""
    folder = tmp_path_factory.mktemp("cluster")
    for name in ("here", "there", "data", "other-data", "scratch"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for name in ("here", "other-data"):
        np.savez(folder / name / "tiny.npz", images=rng.integers(0, 256, (400, 8, 8), dtype=np.uint8))
    made = Cluster(folder)
    try:
        made.worker(folder / "here")
        made.worker(folder / "here")
        made.worker(folder / "there", FEDBENCH_DATA=str(folder / "other-data"))
        made.wait_for(3)
        yield made
    finally:
        made.close()


@pytest.fixture
def here(three: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that two workers see, empty but for the data."""
    folder = three.folder / "here"
    monkeypatch.chdir(folder)
    for path in folder.iterdir():
        if path.name != "tiny.npz":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def planned(results: Path, **changes: Any) -> list[Job]:
    settings: dict[str, Any] = {"methods": ["fedavg"], "seeds": [1], "visits": 12, "evaluate_every": 4}
    settings |= {"clients": 5, "settings": {"all.local.steps": "2"}, "device": "cpu", "checkpoint_every": 0.0}
    return Comparison(results=results, **{**settings, **changes}).jobs()


def hidden(jobs: Sequence[Job]) -> list[Job]:
    """`jobs` with paths that lead elsewhere for a process that works elsewhere."""

    def path(text: str) -> str:
        return str(HERE / Path(text).name) if text.endswith(".py") else text

    return [
        replace(j, results=HERE / j.results.name, method=path(j.method), dataset=path(j.dataset), data_root=HERE)
        for j in jobs
    ]


class Run:
    """A run on a cluster, in a thread, as another program would see it."""

    def __init__(self, jobs: Sequence[Job], where: Cluster, **options: Any) -> None:
        self.said: list[str] = []
        self.seen: dict[str, set[str]] = {}
        self.outcomes: list[Outcome] = []
        self.error: BaseException | None = None
        self.jobs, self.where, self.options = jobs, where, options
        self.thread = threading.Thread(target=self.body)
        self.thread.start()

    def body(self) -> None:
        try:
            self.outcomes = cluster.run(
                self.jobs, self.where.file, self.progress, lambda outcome: None, say=self.said.append, **self.options
            )
        except BaseException as error:
            self.error = error

    def progress(self, notes: dict[str, dict[str, Any]]) -> None:
        for note in notes.values():
            self.seen.setdefault(note["worker"], set()).add(note["name"])

    def finish(self) -> dict[str, str]:
        """How each job ended, by method and seed."""
        self.thread.join(400)
        assert not self.thread.is_alive(), self.said
        assert self.error is None, self.error
        return {f"{o.job.spec.method} {o.job.spec.seed}": o.ending for o in self.outcomes}


def until(true: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# ---------------------------------------------------------------- one process


def test_without_the_option_nothing_of_dask_is_imported() -> None:
    code = (
        "import sys, fedbench.api, fedbench.cli, fedbench.runs.workers, fedbench.runs.comparison\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('dask', 'distributed')])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_the_option_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadInput, match=r"pip install 'fedbench\[cluster\]'"):
        Workers(scheduler="tcp://127.0.0.1:1").run(planned(tmp_path), lambda notes: None, lambda outcome: None)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tcp://127.0.0.1:9", "no Dask scheduler answers at tcp://127.0.0.1:9"),
        ("nowhere.json", "there is no such file"),
        ("tcp://no-such-host.invalid:8786", "no Dask scheduler answers"),
    ],
)
def test_a_wrong_address_is_answered_soon(address: str, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(BadInput, match=words), scheduler.connect(address):
        pass
    assert time.monotonic() - began < scheduler.CONNECT + 10  # Dask's import included


@pytest.mark.parametrize("command", ["run --methods fedavg", "reproduce table1", "tune --methods fedavg"])
def test_a_command_with_a_wrong_address_ends_before_it_plans(command: str, tmp_path: Path) -> None:
    """The variable of the environment is the option."""
    where = {"FEDBENCH_SCHEDULER": "tcp://127.0.0.1:9"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "fedbench", *command.split()],
        cwd=tmp_path,
        env=environment(**where),
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began < 10
    assert done.returncode == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("jobs", 0), ("jobs", -1), ("jobs", True), ("jobs_per_gpu", 0)])
def test_a_number_of_runs_at_a_time_is_one(name: str, value: int, tmp_path: Path) -> None:
    """Also where the workers are a scheduler's: with less than one at a time nothing would ever begin."""
    options: dict[str, Any] = {"jobs": None, "jobs_per_gpu": 1, name: value}
    with pytest.raises(BadInput, match=f"{name}={value} cannot be: give the number of runs at a time"):
        workers_for(planned(tmp_path), options["jobs"], options["jobs_per_gpu"], "tcp://127.0.0.1:9")


def test_a_dry_run_for_gpus_that_are_elsewhere_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    console = new_console()
    with console.capture() as captured:
        show_plan(planned(tmp_path, device="cuda", remote=True), 1, console)
    assert "missing" in captured.get()
    assert "how long runs on a GPU take is not known" in captured.get()


@pytest.mark.parametrize("says", [b"", b"HTTP/1.0 200 OK\r\n\r\nhello, world; hello, world"])
def test_what_is_no_scheduler_is_answered_soon(says: bytes, tmp_path: Path) -> None:
    """Something listens there that says nothing, or what no scheduler says; also where a file names it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            kept = []
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])
                    kept[-1].sendall(says)

        threading.Thread(target=answer, daemon=True).start()
        file = tmp_path / "scheduler.json"
        file.write_text(json.dumps({"address": f"tcp://127.0.0.1:{server.getsockname()[1]}"}))
        began = time.monotonic()
        with pytest.raises(BadInput, match="no Dask scheduler answers at"), scheduler.connect(str(file)):
            pass
        assert time.monotonic() - began < scheduler.CONNECT + 3


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"address": 3}', "\0"])
def test_a_file_that_no_scheduler_wrote_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "scheduler.json").write_text(content)
    with pytest.raises(BadInput, match="--scheduler"), scheduler.connect(str(tmp_path / "scheduler.json")):
        pass


def test_a_plug_in_that_changed_is_not_the_one_that_was_imported(tmp_path: Path) -> None:
    """Its text is what counts: a process that lives on takes a copy where the file is another one than it imported."""
    path = str(plugin(tmp_path, "changing", "pass"))
    first = {path: {"changing.py": Path(path).read_bytes()}}
    second = {path: {"changing.py": PLUGIN.format(name="Changing", body="time.sleep(0)").encode()}}
    assert plugin_files.unpacked("fedavg", first) == "fedavg"
    assert plugin_files.unpacked(path, first) == path
    Path(path).write_bytes(second[path]["changing.py"])
    copy = plugin_files.unpacked(path, second)
    assert copy != path
    assert Path(copy).read_bytes() == second[path]["changing.py"]
    assert Path(copy).name == "changing.py"
    assert Path(plugin_files.unpacked(path, first)).read_bytes() == first[path]["changing.py"]


def test_the_modules_beside_a_plug_in_travel_with_it(tmp_path: Path) -> None:
    """Its code hash is the same where none of them is, and where one of them is another."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").write_text("")
    (tmp_path / "tools" / "inner.py").write_text("from helper import wait\n")
    (tmp_path / "helper.py").write_text("wait = 0\n")
    (tmp_path / "other.py").write_text("nobody = 1\n")
    path = plugin(tmp_path, "helped", "wait")
    path.write_bytes(b"from tools.inner import wait  # \xe9\n".join([b"# coding: latin-1\n", path.read_bytes()]))
    parts = [("method", str(path))]
    code, packed = plugins.find_method(str(path)).code, plugin_files.pack(parts)
    assert set(packed[str(path)]) == {"helped.py", "helper.py", "tools/__init__.py", "tools/inner.py"}
    (tmp_path / "helper.py").write_text("wait = 1\n")
    plugins.find.cache_clear()
    assert plugin_files.codes(parts, packed) == {parts[0]: code}
    assert plugin_files.codes(parts, {}) != {parts[0]: code}


def test_samples_that_changed_are_noticed_by_a_process_that_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker said of them once does not hold for ever; neither does who holds which of them.

    A worker may have them in a folder of its own, though others are where the submitting process has them.
    """
    (tmp_path / "tiny.py").write_text(TINY)
    for rows in (400, 300):
        np.savez(tmp_path / "tiny.npz", images=np.zeros((rows, 8, 8), dtype=np.uint8))
        jobs = planned(tmp_path / "results", dataset=str(tmp_path / "tiny.py"), data_root=tmp_path)
        needs = on_worker.needed(jobs)
        assert on_worker.lacking(needs) == {}
        where = jobs[0].dataset
        partition = make_partition(where, tmp_path, jobs[0].spec.partition, 5, 1)
        assert max(int(part.max()) for part in partition.train) < rows
    np.savez(tmp_path / "tiny.npz", images=np.ones((300, 8, 8), dtype=np.uint8))
    assert on_worker.lacking(needs) == {where: "its samples are others than here"}
    (tmp_path / "own").mkdir()
    np.savez(tmp_path / "own" / "tiny.npz", images=np.zeros((300, 8, 8), dtype=np.uint8))
    monkeypatch.setenv("FEDBENCH_DATA", str(tmp_path / "own"))
    assert on_worker.lacking(needs) == {}


def test_cluster_tells_how_for_the_plan_at_hand(tmp_path: Path) -> None:
    jobs = planned(tmp_path, seeds=[1, 2, 3])
    with announced(jobs):
        told = CliRunner().invoke(app, ["cluster", str(tmp_path), "--device", "cuda", "--workers", "2"]).stdout
    assert "3 runs are planned" in told
    assert "digits" in told
    assert "--nworkers 2 --nthreads 1 --memory-limit 0 --resources GPU=1" in told
    wrong = CliRunner().invoke(app, ["cluster", "--device", "gpu"])
    assert isinstance(wrong.exception, BadInput)


# ---------------------------------------------------------------- three workers


@linux
@pytest.mark.slow
def test_twelve_runs_have_the_bits_of_local_ones_though_a_worker_is_killed(
    three: Cluster, here: Path, tmp_path: Path
) -> None:
    """One of the runs is of a plug-in that the third worker has no file of, one raises, and a worker gets a SIGKILL."""
    mine = plugin(here, "mine", "from helper import wait; time.sleep(wait)")  # each run is seen while it runs
    (here / "helper.py").write_text("wait = 0.2\n")
    bad = plugin(here, "bad", "raise ArithmeticError('wrong')")
    methods = ["pfedhn-pc", "local", str(mine)]
    pool.run(planned(tmp_path / "local", methods=methods, seeds=[1, 2, 3, 4]), 1, lambda n: None, lambda o: None)
    jobs = planned(here / "results", methods=[*methods, str(bad)], seeds=[1, 2, 3, 4])
    run = Run(hidden([job for job in jobs if job.spec.method != "bad" or job.spec.seed == 1]), three)
    until(lambda: not run.thread.is_alive() or any("mine" in name for names in run.seen.values() for name in names))
    victim = next(address for address, names in run.seen.items() if any("mine" in name for name in names))
    with three.client() as client:
        pids = client.run(os.getpid)
    if victim in pids:
        os.kill(pids[victim], signal.SIGKILL)
    endings = run.finish()
    assert endings.pop("bad 1") == "failed"
    assert len(endings) == 12
    assert set(endings.values()) == {"done"}
    assert all_numbers(here / "results") == all_numbers(tmp_path / "local")
    assert len(run.seen) >= 3  # all took part
    failed = next(outcome for outcome in run.outcomes if outcome.job.spec.method == "bad")
    assert failed.message == "ArithmeticError: wrong"
    left = {path for path in (here / "results" / storage.WORK).iterdir() if path.suffix != ".lock"}
    assert {path.stem for path in left} == {failed.job.spec.identity}  # those that are done left nothing


@linux
@pytest.mark.slow
def test_a_run_that_kills_three_workers_is_failed_and_the_rest_goes_on(three: Cluster, here: Path) -> None:
    three.wait_for(3)
    killer = plugin(here, "killer", "os.kill(os.getpid(), signal.SIGKILL)")
    run = Run(hidden(planned(here / "results", methods=["fedavg", str(killer)])), three)
    assert run.finish() == {"fedavg 1": "done", "killer 1": "failed"}
    assert "3 worker processes died" in run.outcomes[1].message
    assert sum("ended; killer seed 1" in text for text in run.said) == 2
    record = storage.read_failure(storage.work_path(here / "results", run.jobs[1].spec, "error"))
    assert "3 worker processes died" in record.message


@linux
@pytest.mark.slow
def test_data_are_found_by_their_samples(three: Cluster, here: Path) -> None:
    """The third worker has a file of the right name with other samples, and is not used for it; then nobody has any."""
    three.wait_for(3)
    (here / "tiny.py").write_text(TINY)
    jobs = hidden(planned(here / "results", dataset=str(here / "tiny.py"), data_root=here, seeds=range(1, 9)))
    run = Run(jobs, three)
    assert set(run.finish().values()) == {"done"}
    assert sum("is not used for tiny: its samples are others than here" in text for text in run.said) == 1
    with three.client() as client:
        seen = client.run(os.getcwd)
    assert all(seen[worker] == str(here) for worker in run.seen)


@linux
@pytest.mark.slow
def test_a_worker_without_the_data_is_not_used(three: Cluster, here: Path) -> None:
    """The third worker has no file of that name: a sentence names it, and the others make the runs."""
    three.wait_for(3)
    (here / "lone.py").write_text(TINY.replace("tiny.npz", "lone.npz").replace("Tiny", "Lone"))
    shutil.copy(here / "tiny.npz", here / "lone.npz")
    jobs = hidden(planned(here / "results", dataset=str(here / "lone.py"), data_root=here, seeds=range(1, 9)))
    run = Run(jobs, three)
    assert set(run.finish().values()) == {"done"}
    assert sum("is not used for lone:" in text and "lone.npz" in text for text in run.said) == 1
    with three.client() as client:
        seen = client.run(os.getcwd)
    assert all(seen[worker] == str(here) for worker in run.seen)


@linux
@pytest.mark.slow
def test_a_stopped_and_a_killed_submitter_lose_nothing(three: Cluster, here: Path, tmp_path: Path) -> None:
    """Ctrl-C ends with status 130 and checkpoints; after SIGKILL the workers stop by themselves; both can go on."""
    three.wait_for(3)
    counted = f"open({str(here / 'visits')!r}, 'a').write('visit\\n'); time.sleep(0.1)"
    mine = plugin(here, "counted", counted)
    straight = planned(tmp_path / "local", methods=[str(mine)], seeds=[1, 2], visits=60, evaluate_every=20)
    pool.run(straight, 1, lambda n: None, lambda o: None)
    (here / "visits").unlink()
    command = [sys.executable, "-m", "fedbench", "run", f"--methods={mine}", f"--results={here / 'results'}"]
    command += ["--visits=60", "--evaluate-every=20", "--seeds=1,2", "--clients=5", "--set=counted.local.steps=2"]
    command += ["--device=cpu", "--checkpoint-every=0.2", f"--scheduler={three.file}"]
    work = here / "results" / storage.WORK

    def running() -> bool:
        return len(list(work.glob("*.checkpoint"))) == 2 and (here / "visits").read_text().count("visit") % 60 > 10

    def idle() -> bool:
        with three.client() as client:
            return not any(client.processing().values()) and not any(
                client.run(lambda dask_worker: dask_worker.state.executing_count).values()
            )

    process = start(command)
    until(running)
    process.send_signal(signal.SIGINT)
    assert "the same command goes on from here" in finish(process, 130)
    assert len(list(work.glob("*.checkpoint"))) == 2
    process = start(command)
    until(lambda: (here / "visits").read_text().count("visit") >= 60)
    process.kill()
    process.communicate()
    until(idle, 60)
    finish(start(command))
    assert all_numbers(here / "results") == all_numbers(tmp_path / "local")
    assert (here / "visits").read_text().count("visit") < 150  # of 120: what was after the last checkpoint


@linux
@pytest.mark.slow
def test_two_submitters_do_nothing_twice(three: Cluster, here: Path) -> None:
    three.wait_for(3)
    mine = plugin(here, "shared", f"open({str(here / 'visits')!r}, 'a').write('visit\\n'); time.sleep(0.02)")
    jobs = hidden(planned(here / "results", methods=[str(mine)], seeds=[1, 2, 3, 4, 5, 6], visits=20))
    runs = [Run(jobs, three), Run(jobs, three)]
    for run in runs:
        assert set(run.finish().values()) == {"done"}
    assert (here / "visits").read_text().count("visit") == 120


@linux
@pytest.mark.slow
def test_workers_of_another_kind_are_refused_by_a_sentence(tmp_path: Path) -> None:
    """One computes with other instructions, one has another fedbench: there is nobody to do the job."""
    copy = tmp_path / "copy"
    root = Path(fedbench.__file__).parent.parent
    shutil.copytree(root / "fedbench", copy / "fedbench", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("methods", "datasets"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", copy)
    with (copy / "fedbench" / "tree.py").open("a") as file:
        file.write("# another version\n")
    made = Cluster(tmp_path)
    try:
        made.worker(tmp_path, "--no-nanny", ATEN_CPU_CAPABILITY="default")
        made.worker(tmp_path, "--no-nanny", PYTHONPATH=os.pathsep.join([str(copy), *sys.path]))
        made.wait_for(2)
        said: list[str] = []
        with pytest.raises(BadInput, match="no worker can do digits on cpu"):
            cluster.run(planned(tmp_path / "results"), made.file, lambda n: None, lambda o: None, say=said.append)
        assert len(said) == 2
        assert any("its instruction set is" in text and "and here it is" in text for text in said)
        assert any("its fedbench source is another one" in text for text in said)
        jobs = planned(tmp_path / "results", device="cuda", remote=True)
        with pytest.raises(BadInput, match="none was started with --resources GPU=1"):
            cluster.run(jobs, made.file, lambda n: None, lambda o: None)
    finally:
        made.close()
    assert list(storage.files(tmp_path / "results")) == []


@linux
@pytest.mark.slow
def test_a_worker_that_does_not_answer_holds_nobody_up(tmp_path: Path) -> None:
    """One is frozen, one has no fedbench: a third one makes the runs.

    While it is at one, Ctrl-C ends a run that waits for it; and where the scheduler ends, so do those that use it.
    """
    (tmp_path / "none" / "fedbench").mkdir(parents=True)
    (tmp_path / "none" / "fedbench" / "__init__.py").write_text("raise ImportError('not here')\n")
    made = Cluster(tmp_path)
    try:
        made.worker(tmp_path, "--no-nanny")
        made.worker(tmp_path, "--no-nanny", PYTHONPATH=os.pathsep.join([str(tmp_path / "none"), *sys.path]))
        frozen = made.worker(tmp_path, "--no-nanny")
        made.wait_for(3)
        frozen.send_signal(signal.SIGSTOP)
        run = Run(planned(tmp_path / "results", seeds=[1, 2]), made)
        assert set(run.finish().values()) == {"done"}
        (refusal,) = run.said
        assert "is not used: fedbench cannot be asked there" in refusal
        assert "ImportError('not here')" in refusal
        slow = plugin(tmp_path, "slow", "time.sleep(60)")
        run = Run(planned(tmp_path / "results", methods=[str(slow)]), made)
        until(lambda: run.seen)
        command = [sys.executable, "-m", "fedbench", "run", "--methods=fedavg", f"--results={tmp_path / 'waiting'}"]
        command += ["--visits=60", "--seeds=1", "--device=cpu", f"--scheduler={made.file}"]
        process = start(command)
        with made.client() as client:
            until(lambda: sum(map(len, client.processing().values())) == 2)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert "the same command goes on from here" in finish(process, 130)
        assert time.monotonic() - began < 30
        made.processes[0].kill()
        run.thread.join(30)
        assert isinstance(run.error, BadInput)
        assert "the Dask scheduler ended" in str(run.error)
    finally:
        frozen.send_signal(signal.SIGCONT)
        made.close()


def test_the_end_of_the_last_gpu_worker_ends_no_campaign(tmp_path: Path) -> None:
    """One that had none from the start does nothing; one that lost it waits for another."""
    said: list[str] = []
    roster = SimpleNamespace(
        asked=set(), workers={"w": SimpleNamespace(cuda=False, used=True)}, able=lambda job, shared: set()
    )
    roster.say_once, roster.last_said = said.append, ""
    jobs = planned(tmp_path, device="cuda", remote=True)
    campaign: Any = SimpleNamespace(tickets={}, roster=roster, todo={"a": deque(jobs)}, submitted=0, outcomes=[])
    with pytest.raises(BadInput, match="none was started with --resources GPU=1; start some, or use --device cpu"):
        list(cluster._Campaign._hopeless(campaign))
    campaign.submitted = 1
    assert list(cluster._Campaign._hopeless(campaign)) == []
    assert [text.endswith("start some; waiting") for text in said] == [True]
    assert list(campaign.todo["a"]) == jobs
