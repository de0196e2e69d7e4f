"""What good users expect and used not to find: names, counts, identities, config files, odd terminals."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fedbench import storage

Run = Callable[..., tuple[int, str, str]]

ONE = ("--methods", "fedavg", "--visits", "4", "--seeds", "42", "--jobs", "1", "--set", "all.local.steps=2")
FEDAVG = "from dataclasses import dataclass\nfrom fedbench.methods.fedavg import FedAvg\n\n"
MINE = FEDAVG + '@dataclass(frozen=True, kw_only=True)\nclass Mine(FedAvg):\n    title = "Mine"\n'


def _planned(text: str) -> list[tuple[str, str]]:
    """Method and seed of each run of a dry run."""
    return re.findall(r"^[0-9a-f]{16}\s+(\S+)\s+(\d+)\s", text, flags=re.MULTILINE)


@pytest.fixture
def dry(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """A dry run that measures nothing."""
    from fedbench.runs import estimate

    monkeypatch.setattr(estimate, "seconds", lambda job: 1.0)
    return lambda *arguments: run("run", *arguments, "--dry-run")


def test_seeds_are_a_list_and_a_count_has_its_own_word(dry: Run) -> None:
    assert [seed for _, seed in _planned(dry("--methods", "local", "--seeds", "42")[1])] == ["42"]
    assert [seed for _, seed in _planned(dry("--methods", "local", "--seeds", "7,3")[1])] == ["7", "3"]
    assert [seed for _, seed in _planned(dry("--methods", "local", "--seed-count", "4")[1])] == ["42", "27", "13", "0"]
    assert dry("--methods", "local", "--seed-count", "3000000")[0] == 2


def test_all_methods_and_a_file(dry: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    status, out, _ = dry("--methods", "all,./mine.py", "--seeds", "1")
    methods = [method for method, _ in _planned(out)]
    assert status == 0
    assert methods[-1] == "mine"
    assert {"pfedhn", "fedavg", "local"} < set(methods)
    assert len(methods) == len(set(methods))
    assert [method for method, _ in _planned(dry("--methods", "all,fedavg", "--seeds", "1")[1])].count("fedavg") == 1


def test_a_file_at_hand_is_named(dry: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    status, _, err = dry("--methods", "mine")
    assert status == 2
    assert "write ./mine.py" in err


@pytest.mark.parametrize(
    "arguments",
    [("--dataset", "Digits"), ("--preset", "SMOKE"), ("--methods", "FedAvg-FT,p_fedhn,Per FedAvg"), ("-h",)],
    ids=" ".join,
)
def test_titles_and_names_are_alike(dry: Run, arguments: tuple[str, ...]) -> None:
    assert dry("--seeds", "1", "--methods", "local", *arguments)[0] == 0


def test_a_title_that_is_not_the_name_is_found(run: Run) -> None:
    assert "cifar10: CIFAR-10" in run("list", "datasets", "CIFAR-10")[1]
    assert "fashion-mnist: " in run("list", "datasets", "fashionMNIST")[1]


def test_identities_name_results(run: Run, tmp_path: Path) -> None:
    """The whole identity, its beginning, and the file; what is none, or none of these, is refused."""
    assert run("run", *ONE)[0] == 0
    (path,) = storage.files(tmp_path / "results")
    for text in (path.stem, path.stem[:6], str(path)):
        status, out, _ = run("show", text)
        assert status == 0
        assert all(part in out for part in (path.stem, "client mean", "local.steps", "instruction_set", "digest"))
    status, out, _ = run("verify", path.stem)
    assert (status, "equal" in out) == (0, True)
    for text in ("0000", "xyz", "ab"):
        assert run("show", text)[0] == 2
        assert run("verify", text)[0] == 2
    command = re.search(r"^fedbench (run .*)$", run("show", path.stem)[1], flags=re.MULTILINE)
    assert command
    assert "1 of 1 runs are done already" in run(*command[1].split())[1]


def test_the_command_of_a_run_says_which_plugins_are_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert run("run", *ONE, "--methods", "./mine.py", "--keep-models")[0] == 0
    (path,) = storage.files(tmp_path / "results")
    out = run("show", path.stem)[1]
    assert "# the method mine is a plug-in: give its file in place of the name" in out
    assert out.count("is a plug-in") == 1
    command = re.search(r"^fedbench (run .*)$", out, flags=re.MULTILINE)
    assert command
    again = run(*command[1].replace("--methods mine", "--methods ./mine.py").split())
    assert "1 of 1 runs are done already" in again[1]
    assert "--keep-models" in command[1]


def test_an_identity_that_is_a_trial_says_where_it_is(run: Run, tmp_path: Path) -> None:
    tune = ["tune", "--methods", "fedavg", "--clients", "4", "--trials", "2", "--visits", "10", "--evaluate-every", "5"]
    assert run(*tune, "--search", "fedavg.local.lr=0.1,0.2")[0] == 0
    path = next(iter(storage.files(tmp_path / "results" / storage.TRIALS)))
    status, _, err = run("show", path.stem)
    assert status == 2
    assert f"it is a trial of `fedbench tune`: --results results/{storage.TRIALS}" in err
    assert run("show", path.stem, "--results", f"results/{storage.TRIALS}")[0] == 0
    assert "is a folder, and one result is wanted" in run("show", "results")[2]


def test_an_accuracy_above_100_percent_is_no_target(run: Run) -> None:
    assert run("run", *ONE)[0] == 0
    status, _, err = run("report", "--targets", "80,200")
    assert status == 2
    assert "targets" in err
    assert "at most 100" in err


BESIDE = """
from pathlib import Path

import numpy as np
import torch

from fedbench.dataset import Data, Dataset


class Beside(Dataset):
    title = "Beside"
    source = "a file beside this one"
    network = "mlp-digits"
    cached = False

    def load(self, root):
        seed = int(Path(__file__).with_name("seed.txt").read_text())
        rng = np.random.default_rng(seed)
        images = torch.from_numpy(rng.integers(0, 255, (200, 1, 8, 8)).astype(np.uint8))
        return Data(images=images, labels=torch.arange(200) % 4, classes=4, mean=[0.5], std=[0.5])
"""


def test_other_samples_of_a_data_set_that_reads_by_itself_are_noticed(run: Run, tmp_path: Path) -> None:
    """Its own file is as before, and so is its code hash."""
    (tmp_path / "beside.py").write_text(BESIDE)
    command = "run --methods local --dataset ./beside.py --clients 4 --visits 4 --seeds 1 --device cpu"
    (tmp_path / "seed.txt").write_text("1")
    assert run(*command.split())[0] == 0
    assert "1 of 1 runs are done already" in run(*command.split())[1]
    (tmp_path / "seed.txt").write_text("2")
    assert "made again" in "".join(run(*command.split())[1:])


def test_a_home_folder_that_there_is_not_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDBENCH_DATA", "~nobody-of-this-name/data")
    status, _, err = run("run", "--dataset", "cifar10", "--dry-run")
    assert status == 2
    assert "FEDBENCH_DATA '~nobody-of-this-name/data' cannot be a path" in err


def test_a_config_finds_its_files_from_any_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one method in a folder with a comma, and a network that is a file."""
    (tmp_path / "c,d").mkdir()
    (tmp_path / "c,d" / "mine.py").write_text(MINE)
    network = (
        "from fedbench.models import mlp\n\n\ndef network(image, classes):\n    return mlp(image, classes, 8, 'net')\n"
    )
    (tmp_path / "net.py").write_text(network)
    results = ("--results", str(tmp_path / "results"))
    options = ("--visits", "4", "--seeds", "1", "--jobs", "1", "--clients", "5", "--device", "cpu", *results)
    made = ("--methods", "c,d/mine.py", "--network", "./net.py*2,mlp-digits*3", "--write-config", "mine.toml")
    assert run("run", *options, *made)[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "1 of 1 runs are done already" in run("run", "--config", "../mine.toml")[1]


@pytest.mark.skipif(sys.platform != "linux", reason="names of folders are bytes")
def test_a_config_that_cannot_hold_a_path_is_refused(run: Run) -> None:
    folder = os.fsdecode(b"r\xe9s")
    status, _, err = run("run", "--results", folder, "--dry-run", "--write-config", "mine.toml")
    assert (status, "mine.toml cannot be written: it would hold a path that is no text" in err) == (2, True)


def test_a_file_that_may_not_be_read_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere/.work")

    monkeypatch.setattr("fedbench.runs.housekeeping.leftovers", denied)
    assert run("run", *ONE)[0] == 0
    status, _, err = run("clean")
    assert (status, err) == (
        2,
        "fedbench: /somewhere/.work: permission denied; ask its owner, or choose another folder\n",
    )


@pytest.mark.parametrize("folder", ["results", "results/digits", "results/digits/fedavg"])
def test_a_report_of_the_folder_that_run_named(run: Run, folder: str) -> None:
    out = run("run", *ONE)[1]
    assert re.search(r"^results: .*/results/digits$", out, flags=re.MULTILINE)
    assert run("report", folder, "--figures", "0")[0] == 0


def test_what_was_run_is_written_as_a_config_and_run_from_it(run: Run, tmp_path: Path) -> None:
    """The file alone asks for the same runs, whatever the defaults are then; options beside it go before."""
    (tmp_path / "mine.py").write_text(MINE)
    options = (
        "--methods",
        "fedavg,./mine.py",
        "--visits",
        "6",
        "--evaluate-every",
        "2",
        "--seeds",
        "5,6",
        "--jobs",
        "1",
    )
    extra = ("--novel-clients", "2", "--adapt-visits", "1", "--set", "all.local.steps=2", "--keep-state")
    assert run("run", *options, *extra, "--write-config", "mine.toml")[0] == 0
    written = tomllib.loads((tmp_path / "mine.toml").read_text())
    assert written["seeds"] == [5, 6]
    assert written["visits"] == 6
    assert written["set"] == {"all.local.steps": "2"}
    assert "4 of 4 runs are done already" in run("run", "--config", "mine.toml")[1]
    assert "2 of 2 runs are done already" in run("run", "--config", "mine.toml", "--seeds", "6")[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("visits = 5\nmethod = 'fedavg'", "Did you mean 'methods'?"),
        ("set = 3", "must be a table"),
        ("visits = [", "is not TOML"),
        ("visits = 0", "visits"),
        ("seeds = [1.5]", "is no option's value"),
        ("seeds = 3", "write a list, seeds = [3], or a count, seed-count = 3"),
        ("dry-run = true", "no option in"),
        ("visits = true", "visits is no switch"),
        ("keep-models = 1", "keep-models is a switch: write true or false"),
        ("seeds = [true]", "is no option's value"),
        ("evaluate-every = 3\nevaluate_every = 4", "has evaluate-every twice"),
        ("methods = ['fedavg,local']", "'fedavg,local' has a comma"),
    ],
)
def test_a_wrong_config_is_refused(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    status, _, err = run("run", "--config", "c.toml")
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_settings_beside_a_config_go_before_its_own_key_by_key(dry: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'methods = ["fedavg", "local"]\nseeds = [3]\nvisits = 4\nresults = "r \U0001f600"\n'
        "[set]\nall.local.steps = 2\nfedavg.local.lr = 0.1\nlocal.local.momentum = 0.5\n"
    )

    def written(*arguments: str) -> dict[str, str]:
        assert dry("--config", "c.toml", *arguments, "--write-config", "w.toml", "--jobs-per-gpu", "2")[0] == 0
        found = tomllib.loads((tmp_path / "w.toml").read_text())
        assert found["jobs-per-gpu"] == 2
        assert found["results"].endswith("r \U0001f600")
        settings: dict[str, str] = found["set"]
        return settings

    file = {"all.local.steps": "2", "fedavg.local.lr": "0.1", "local.local.momentum": "0.5"}
    assert written() == file
    assert written("--set", "fedavg.local.lr=0.05") == {**file, "fedavg.local.lr": "0.05"}
    assert written("--set", "all.local.lr=0.05") == {
        "all.local.steps": "2",
        "local.local.momentum": "0.5",
        "all.local.lr": "0.05",
    }
    assert [seed for _, seed in _planned(dry("--config", "c.toml", "--seed-count", "2")[1])] == ["42", "42", "27", "27"]
    assert dry("--config", "c.toml", "--seed-count", "2", "--seeds", "5")[0] == 2


def test_what_no_result_could_hold_is_refused_before_anything_runs(dry: Run) -> None:
    for arguments, words in (
        (("--seeds", "9223372036854775808"), "below 2^63"),
        (("--clients", "100", "--network", ",".join(["mlp-digits*1", "mnist-mlp*1"] * 50)), "at most 1000 characters"),
    ):
        status, _, err = dry("--methods", "local", *arguments)
        assert status == 2
        assert words in err
        assert "Traceback" not in err


def test_settings_that_were_tuned_elsewhere_are_used_with_a_warning(dry: Run, run: Run, tmp_path: Path) -> None:
    """And a hyperparameter that is fixed to nothing can be read again."""
    options = ("--trials", "2", "--visits", "5", "--evaluate-every", "5", "--jobs", "1", "--out", "t.toml")
    fixed = ("--set", "pfedhn.hypernetwork.embedding_lr=none", "--set", "pfedhn.local.steps=1")
    assert run("tune", "--methods", "pfedhn", *options, *fixed)[0] == 0
    status, out, _ = dry("--methods", "pfedhn,local", "--settings", "t.toml", "--seeds", "1")
    assert status == 0
    assert "tuned, 2 trials" in out
    assert "was tuned with" not in out
    assert "t.toml says nothing of local" in " ".join(out.split())
    out = " ".join(dry("--methods", "pfedhn", "--settings", "t.toml", "--clients", "4", "--seeds", "1")[1].split())
    assert "t.toml was tuned with clients 10; here: clients 4" in out


def test_toml_tables_are_dotted_names(dry: Run, run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('methods = "fedavg"\nseeds = [3]\nvisits = 4\n[set]\nfedavg.local.steps = 2\n')
    assert run("run", "--config", "c.toml")[0] == 0
    (path,) = storage.files(tmp_path / "results")
    assert storage.read(path).spec.params["local.steps"] == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_terminal_loses_a_table(encoding: str, tmp_path: Path) -> None:
    """The table after the runs, in characters that the terminal has; the file of the runs names a title it has not."""
    (tmp_path / "odd.py").write_text(MINE.replace('"Mine"', '"Mine \\u2192 ł"'), encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    run = ["run", "--methods", "odd.py,fedavg", *ONE[2:4], "--seeds", "1,2", "--jobs", "1", *ONE[8:]]
    done = subprocess.run(
        [sys.executable, "-m", "fedbench", *run], capture_output=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    out = done.stdout.decode(encoding)
    assert ("+-" if encoding == "ascii" else "±") in out
    rows = [line for line in out.splitlines() if "Mine" in line or "FedAvg" in line]
    assert len(rows) == 2
    assert len({len(row) for row in rows}) == 1  # aligned


def test_a_closed_pipe_ends_no_run(tmp_path: Path) -> None:
    command = f"{sys.executable} -m fedbench run {' '.join(ONE)} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(storage.files(tmp_path / "results"))) == 1


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_standard_output_may_be_closed_from_the_start(tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m fedbench run {' '.join(ONE)} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert len(list(storage.files(tmp_path / "results"))) == 1


class Terminal:
    """A pseudo-terminal of some size with a command in it."""

    def __init__(self, folder: Path, *arguments: str, columns: int = 80, **environment: str) -> None:
        self.process, self.end = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.environ.update(TERM="xterm", COLUMNS=str(columns), LINES="24", **environment)
            os.execv(sys.executable, [sys.executable, "-m", "fedbench", *arguments])
        self.text = ""

    def until(self, pattern: str, seconds: float = 120.0) -> str:
        """What was shown until `pattern` came."""
        last = time.monotonic() + seconds
        while not re.search(pattern, self.text) and time.monotonic() < last:
            if select.select([self.end], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.end, 65536).decode("utf-8", "replace")
                except OSError:  # it has ended
                    break
        assert re.search(pattern, self.text), self.text[-2000:]
        return self.text

    def status(self) -> int:
        """The exit status, once it has ended."""
        self.until_end()
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def until_end(self) -> None:
        try:
            while data := os.read(self.end, 65536):
                self.text += data.decode("utf-8", "replace")
        except OSError:
            return


LONG = (
    "run",
    "--methods",
    "fedavg,local",
    "--visits",
    "100000",
    "--evaluate-every",
    "50",
    "--seed-count",
    "3",
    "--jobs",
)


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "jobs"), [(80, "2"), (40, "1")])
def test_a_terminal_shows_the_time_left_and_what_a_stop_waits_for(tmp_path: Path, columns: int, jobs: str) -> None:
    terminal = Terminal(tmp_path, *LONG, jobs, columns=columns)
    text = terminal.until(r"\d+:\d\d left\b.*\n?.*all .*\d+:\d\d left")
    assert text.startswith("planning: fedavg,local on digits")
    assert "6 runs, " in text
    os.write(terminal.end, b"\x03")
    assert terminal.status() == 130
    assert "stopping: waiting for " in terminal.text
    assert "to be continued" in terminal.text
    assert re.search(r"[45] of 6 runs were not started", terminal.text)
    assert "stopped; the same command goes on from" in terminal.text


@pytest.mark.slow
def test_a_hang_up_is_a_stop(tmp_path: Path) -> None:
    """The terminal goes away: the run leaves a checkpoint, as after Ctrl-C."""
    terminal = Terminal(tmp_path, *LONG, "1")
    terminal.until(r"fedavg seed 42 .*\d+:\d\d left")
    os.kill(terminal.process, signal.SIGHUP)
    os.close(terminal.end)
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.process, 0)[1]) == 130
    assert len(list((tmp_path / "results" / ".work").glob("*.checkpoint"))) == 1


def test_completion_knows_names_without_torch(tmp_path: Path) -> None:
    from fedbench import plugins
    from fedbench.cli import completion

    (tmp_path / "mine.py").touch()
    assert set(plugins.names("method")) <= set(completion.methods(""))
    assert set(plugins.names("dataset")) <= set(completion.datasets(""))
    assert completion.methods("pfedhn,fedavg-") == ["pfedhn,fedavg-ft"]
    assert f"fedavg,{tmp_path}/mine.py" in completion.methods(f"fedavg,{tmp_path}/mi")
    assert completion.presets("l") == ["laptop"]
    assert "table1" in completion.experiments("t")
    script = (
        "import sys, fedbench.cli; from fedbench.cli import completion as c; c.methods(''); c.datasets('');"
        "c.presets(''); c.experiments(''); sys.exit(len({'torch', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_shell_gets_completions(tmp_path: Path) -> None:
    environment = {**os.environ, "_FEDBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "fedbench run --dataset cif"}
    environment["COMP_CWORD"] = "3"
    done = subprocess.run(
        [sys.executable, "-c", "from fedbench.cli import app; app(prog_name='fedbench')"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.stdout.split() == ["cifar10", "cifar100"]


def test_status_says_what_is_done_failed_and_missing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(MINE + "    def server_init(self, rng):\n        raise RuntimeError('no luck')\n")
    assert run("run", "--methods", "fedavg,bad.py", *ONE[2:])[0] == 1
    status, out, _ = run("status")
    assert status == 0
    assert "1 run is done in results" in out
    assert re.search(r"digits +fedavg +1", out)
    assert "failed: bad, digits, seed 42: " in out
    assert run("status", "nowhere")[0] == 2
    (error,) = (tmp_path / "results" / ".work").glob("*.error")
    assert "no luck" in run("show", error.stem)[1]


def test_a_failure_that_a_longer_run_answers_is_none_any_more(run: Run, tmp_path: Path) -> None:
    body = "\n    def server_init(self, rng):\n        import pathlib\n"
    body += "        if pathlib.Path('bad').exists():\n            raise RuntimeError('no luck')\n"
    (tmp_path / "mine.py").write_text(MINE + body + "        return super().server_init(rng)\n")
    (tmp_path / "bad").touch()
    options = ("--methods", "mine.py", "--seeds", "42", "--jobs", "1", "--evaluate-every", "5")
    assert run("run", *options, "--visits", "5")[0] == 1
    (tmp_path / "bad").unlink()
    assert "failed: mine" in run("status")[1]
    (error,) = (tmp_path / "results" / ".work").glob("*.error")
    assert "no luck" in run("show", error.stem[:8])[1], "the beginning of the identity is enough"
    assert run("run", *options, "--visits", "10")[0] == 0
    assert "failed" not in run("status")[1]
    assert "answered by a longer run" in run("run", *options, "--visits", "5")[1]
    assert not error.exists()


def test_a_plan_whose_process_is_gone_can_be_forgotten(run: Run, tmp_path: Path) -> None:
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.status import announced

    with announced(Comparison(methods="fedavg", seeds=[1], results=tmp_path / "results").jobs()):
        pass
    assert "1 planned run is missing" in run("status", "results")[1]
    assert "plans: 1 file" in run("clean", "--yes")[1]
    assert "missing" not in run("status", "results")[1]


def test_a_state_that_was_not_kept_is_not_promised(run: Run) -> None:
    assert run("run", *ONE)[0] == 0
    out = " ".join(run("run", *ONE, "--keep-state")[1].split())
    assert "1 of the runs is done already without a state that was kept" in out


@pytest.fixture
def cluttered(run: Run, tmp_path: Path) -> Path:
    """A results folder with two results, a checkpoint and a state of use, and one of each kind that is of none."""
    (tmp_path / "old.py").write_text(MINE)
    assert run("run", "--methods", "fedavg,old.py", *ONE[2:], "--keep-state")[0] == 0
    work = tmp_path / "results" / ".work"
    for path in work.glob("*.state"):
        path.with_name(f"{path.stem.split('-')[0]}.checkpoint").write_bytes(path.read_bytes())
    (work / "0123456789abcdef.checkpoint").write_bytes(b"torn")
    (work / "0123456789abcdef.error").write_text(
        json.dumps(
            {"spec": json.loads(next((tmp_path / "results").glob("*/*/*.json")).read_text())["spec"], "details": "e"}
        )
    )
    (work / ".0123456789abcdef.checkpoint.77.partial").touch()
    return work


def test_clean_removes_what_is_of_no_use_and_says_so_first(
    run: Run, cluttered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States may all go. The checkpoint of the file old.py counts as one of other code, unless it is named."""
    results = sorted((tmp_path / "results").glob("*/*/*.json"))
    before = sorted(cluttered.iterdir())
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    status, out, err = run("clean", "--methods", "old.py", "errors")
    assert (status, "nothing was removed" in err) == (1, True)
    assert sorted(cluttered.iterdir()) == before
    assert "errors: 1 file," in out
    status, out, _ = run("clean", "--methods", "./old.py", "--yes")
    assert status == 0
    assert "checkpoints: 1 file," in out
    assert "damaged" in out
    assert "states: 2 files," in out
    assert "kept for a longer run, which would begin anew without it" in out
    assert list(cluttered.glob("*.state")) == []
    assert len(list(cluttered.glob("*.checkpoint"))) == 2
    status, out, _ = run("clean", "--yes")
    assert "checkpoints: 1 file," in out
    assert "of other code than any method has now" in out
    assert "states" not in out
    assert len(list(cluttered.glob("*.checkpoint"))) == 1
    assert "nothing to remove" in run("clean", "--yes")[1]
    assert sorted((tmp_path / "results").glob("*/*/*.json")) == results
    assert run("clean", "everything")[0] == 2
