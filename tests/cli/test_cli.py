"""The command line end to end, on the embedded data set."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fedbench

Run = Callable[..., tuple[int, str, str]]

PLUGIN = '''
"""A method of somebody's own."""
from dataclasses import dataclass
from fedbench import tree
from fedbench.local import train
from fedbench.method import Method


@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    title = "Mine"
    paper = "me, 2026"

    def server_init(self, rng):
        return self.task.init(rng)

    def server_send(self, server, cohort):
        return tree.expand(server, len(cohort.ids))

    def client_train(self, message, state, batches):
        BODY
        return train(self.task, self.local, message, batches)[0], state

    def server_receive(self, server, cohort, upload):
        return tree.average(upload, cohort.weight)
'''


SHORT = ("--visits", "4", "--seeds", "42", "--jobs", "1", "--set", "fedavg.local.steps=2")


def test_a_run_prints_a_table_stores_a_result_and_is_not_run_again(run: Run, tmp_path: Path) -> None:
    status, out, err = run("run", "--methods", "FedAvg", *SHORT)
    assert (status, err) == (0, "")
    assert "fedavg seed 42: done (1/1)" in out
    assert "FedAvg" in out
    assert "worst tenth" in out
    (path,) = (tmp_path / "results").glob("digits/fedavg/*.json")
    stored = json.loads(path.read_text())
    assert stored["spec"]["visits"] == 4
    assert stored["history"][-1]["visits"] == 4
    assert not list((tmp_path / "results" / ".work").glob("*.checkpoint"))
    status, out, _ = run("run", "--methods", "fedavg", *SHORT)
    assert status == 0
    assert "1 of 1 runs are done already" in out
    assert "done (1/1)" not in out
    frame = fedbench.load_results(tmp_path / "results")
    assert len(frame) == 1
    assert frame["accuracy"][0] == sum(stored["best"]["test"]["correct"]) / sum(stored["best"]["test"]["total"])


def test_unseen_clients_get_a_column(run: Run) -> None:
    status, out, _ = run("run", "--methods", "fedavg", *SHORT, "--novel-clients", "3", "--adapt-visits", "2")
    assert status == 0
    assert "unseen" in out
    assert "7 clients" in out


def test_a_dry_run_runs_nothing(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("run", "--methods", "fedavg,local", *SHORT, "--set", "local.local.steps=2", "--dry-run")
    assert status == 0
    assert "missing" in out
    assert "about 0:0" in out
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_file_is_a_method_in_worker_processes_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_method.py").write_text(PLUGIN.replace("BODY", "pass"))
    names = ("--methods", "./my_method.py,fedavg", "--visits", "4", "--seeds", "42", "--jobs", "2")
    status, out, _ = run("run", *names, "--set", "fedavg.local.steps=2", "--set", "my_method.local.steps=2")
    assert status == 0
    frame = fedbench.load_results(tmp_path / "results").set_index("method")
    assert frame["accuracy"]["my-method"] == frame["accuracy"]["fedavg"]  # for it is FedAvg
    assert "Mine" in out


def test_a_failing_run_does_not_take_others_down(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(PLUGIN.replace("BODY", "raise RuntimeError('no luck')"))
    status, out, err = run("run", "--methods", "broken.py,fedavg", *SHORT)
    assert status == 1
    assert "broken seed 42: FAILED: RuntimeError: no luck" in out
    assert "fedavg seed 42: done" in out
    assert "in client_train" in err
    assert "raise RuntimeError('no luck')" in err
    assert "training/engine.py" not in err  # the frames of the plug-in's author are shown, and no others
    assert "0/1" in out  # the gap in the table
    assert len(list((tmp_path / "results").glob("digits/*/*.json"))) == 1


def test_a_plugin_that_cannot_be_imported_shows_its_traceback(run: Run, tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text("import nothing_of_that_name\n")
    status, _, err = run("run", "--methods", "typo.py")
    assert status == 2
    assert "typo.py cannot be imported" in err
    assert "No module named 'nothing_of_that_name'" in err


BAD = [
    (("--methods", "pfednh"), "there is no method called 'pfednh'. Did you mean 'pfedhn'?"),
    (("--methods", "pfedhn,pFedHN"), "the method pfedhn was named twice"),
    (("--methods", "nowhere.py"), "there is no method file nowhere.py"),
    (("--dataset", "cifar11"), "Did you mean 'cifar10'?"),
    (("--dataset", "cifar10", "--data-root", "empty"), "cifar10.npz"),
    (("--preset", "laptob"), "Did you mean 'laptop'?"),
    (("--partition", "clases"), "Did you mean 'classes'?"),
    (("--partition", "classes:per_client=11"), "11"),
    (("--clients", "3000"), "3000 clients"),
    (("--network", "lenett"), "Did you mean 'lenet'?"),
    (("--network", "lenet"), "images of 8 x 8 pixels are too small for the network lenet"),
    (("--novel-clients", "10"), "leave none to train on"),
    (("--adapt-visits", "3"), "--novel-clients"),
    (("--set", "pfedhn.lr"), "METHOD.FIELD=VALUE"),
    (("--set", "pfedhn.local.rl=1"), "Did you mean 'local.lr'?"),
    (("--set", "pfedhn.local.lr=fast"), "pfedhn.local.lr=fast"),
    (("--set", "pfedhn.local.lr=-1"), "greater than 0"),
    (("--set", "scaffold.lr=1"), "no method in this comparison called 'scaffold'"),
    (("--seeds", "many"), "--seeds many"),
    (("--seeds", ""), "give at least one"),
    (("--seeds", "42,42"), "different numbers"),
    (("--seeds", "42", "--seed-count", "3"), "give the list or the count"),
    (("--set", "fedavg.local.lr=1", "--set", "FedAvg.local.lr=2"), "fedavg.local.lr is set twice"),
    (("--device", "cuda"), "no CUDA device"),
    (("--device", "tpu"), "there is no device called 'tpu'"),
    (("--results", "/proc/results"), "cannot be written"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_input_is_one_sentence_and_status_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    import torch

    if arguments == ("--device", "cuda") and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    status, _, err = run("run", *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert err.startswith("fedbench: ")


def test_an_outdated_result_is_made_again_and_not_shown(run: Run, tmp_path: Path) -> None:
    """Another source, another method: its old result is neither "done" nor in the table of a run that failed."""
    from fedbench import plugins

    (tmp_path / "mine.py").write_text(PLUGIN.replace("BODY", "pass"))
    settings = (
        "--methods",
        "mine.py",
        "--visits",
        "4",
        "--seed-count",
        "1",
        "--jobs",
        "1",
        "--set",
        "mine.local.steps=2",
    )
    assert run("run", *settings)[0] == 0
    (tmp_path / "mine.py").write_text("# a comment\n" + PLUGIN.replace("BODY", "pass"))
    plugins.find.cache_clear()
    assert "1 of 1 runs are done" in run("run", *settings)[1]
    (tmp_path / "mine.py").write_text(PLUGIN.replace("BODY", "raise RuntimeError('worse')"))
    plugins.find.cache_clear()
    status, out, _ = run("run", *settings)
    assert status == 1
    assert "0/1" in out


NAMELESS = PLUGIN.replace("BODY", "pass").replace('    title = "Mine"\n', "")
PLAIN = PLUGIN.replace("BODY", "pass").replace("@dataclass(frozen=True, kw_only=True)\n", "")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("my.method.py", "", "is no name for a method"),
        ("nameless.py", NAMELESS, "Mine has no title"),
        ("plain.py", PLAIN, "Mine lacks @dataclass(frozen=True, kw_only=True)"),
        ("empty.py", "", "must define exactly one subclass of Method; it defines none"),
    ],
)
def test_a_file_that_is_no_method_is_refused(run: Run, tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    status, _, err = run("run", "--methods", f"./{name}")
    assert status == 2
    assert message in err


def test_lists(run: Run) -> None:
    status, out, _ = run("list", "methods")
    assert status == 0
    assert all(name in out for name in ("pfedhn-pc", "Per-FedAvg", "McMahan"))
    status, out, _ = run("list", "methods", "pfedhn")
    assert status == 0
    assert all(text in out for text in ("hypernetwork.lr", "0.01", "server rate alpha", "Departures from the paper"))
    status, out, _ = run("list", "datasets")
    assert status == 0
    assert all(name in out for name in ("digits", "omniglot", "fashion-mnist"))


def test_partition_prints_and_draws(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("partition", "--clients", "5", "--picture", "shares.png")
    assert status == 0
    assert "digits, classes:per_client=2,spare=1" in out
    assert (tmp_path / "shares.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", [(), ("run",), ("list",), ("list", "methods"), ("partition",)])
def test_help_does_not_import_torch(command: tuple[str, ...]) -> None:
    """The answer to --help is immediate only as long as nothing heavy is imported."""
    script = (
        "import sys; from fedbench import cli; sys.argv = ['fedbench', *sys.argv[1:], '--help']\n"
        "try: cli.main()\n"
        "finally: sys.exit(len({'torch', 'pandas', 'scipy', 'joblib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize("method", ["pfedhn", "fedavg"])
def test_a_run_imports_no_compiler(method: str, tmp_path: Path) -> None:
    """torch imports its compiler, and sympy with it, behind innocent calls: over a second, and 150 MB a process."""
    script = (
        "import sys; from fedbench import cli\n"
        "try: cli.main()\n"
        "finally: print(sorted({'torch._dynamo', 'torch._inductor', 'sympy'} & set(sys.modules)))"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "run",
        "--methods",
        method,
        "--visits",
        "2",
        "--seed-count",
        "1",
        "--jobs",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_report_and_reproduce_from_the_command_line(run: Run, tmp_path: Path) -> None:
    """Exit status 0 for a whole report, 1 for one that leaves something out, 2 where there is nothing to report on."""
    experiment = (
        'title = "Mine"\npaper = "none"\ncaption = "c"\nmetric = "pooled"\ntables = ["grid"]\nmethods = ["fedavg"]\n'
        "[presets.laptop]\nvisits = 4\nseeds = 1\nevaluate_every = 2\n"
        '[[columns]]\nname = "d"\nlabel = "Digits"\ndataset = "digits"\nclients = 5\n'
        'settings = { "fedavg.local.steps" = 2 }\n'
    )
    (tmp_path / "mine.toml").write_text(experiment)
    status, out, _ = run("list", "experiments", "mine.toml")
    assert status == 0
    assert "Mine" in out
    assert "unknown" in out  # the time that is left, where nothing like it has been run
    assert run("report")[0] == 2
    status, out, err = run("reproduce", "mine.toml", "--jobs", "1")
    assert (status, err) == (0, "")
    assert "1 run, 1 at a time" in out
    assert "one seed. Preset laptop: 4 client visits a run" in " ".join(out.split())
    assert (tmp_path / "reports" / "mine" / "index.html").is_file()
    status, out, _ = run("reproduce", "mine.toml", "--no-run")
    assert status == 0
    assert "0:00" in run("list", "experiments", "mine.toml")[1]
    assert "table1" in (listed := run("list", "experiments", "--preset", "reference")[1])
    assert "table2" not in listed, "it has no such preset"
    status, out, _ = run("report", "--figures", "0")
    assert status == 0
    assert "report: reports/index.html" in out
    (tmp_path / "results" / "digits" / "fedavg" / "half.json").write_text("{")
    status, _, err = run("report", "--figures", "0")
    assert status == 1
    assert "half.json is not a fedbench result" in err
    status, _, err = run("reproduce", "mine.toml", "--preset", "paper")
    assert status == 2
    assert "Known: laptop" in err


@pytest.mark.slow
def test_runs_of_other_code_are_not_rendered(run: Run, tmp_path: Path) -> None:
    """A result that `run` would make again is a gap of the experiment, and says so."""
    from fedbench import plugins

    (tmp_path / "own.py").write_text(PLUGIN.replace("BODY", "pass"))
    (tmp_path / "mine.toml").write_text(
        'title = "Mine"\npaper = "none"\ncaption = "c"\nmetric = "pooled"\ntables = ["grid"]\nmethods = ["own.py"]\n'
        "[presets.laptop]\nvisits = 5\nseeds = 1\nevaluate_every = 5\n"
        "[presets.long]\nvisits = 10\nseeds = 1\nevaluate_every = 5\n"
        '[[columns]]\nname = "d"\nlabel = "Digits"\ndataset = "digits"\nclients = 5\n'
    )
    assert run("reproduce", "mine.toml", "--jobs", "1")[0] == 0
    (tmp_path / "own.py").write_text(PLUGIN.replace("BODY", "message = dict(message)"))
    plugins.find.cache_clear()
    status, out, err = run("reproduce", "mine.toml", "--no-run")
    assert status == 1
    assert "outdated" in out
    assert "outdated: own, digits, 5 clients, 5 visits, seed 42: made by other code, or of other samples" in err
    assert run("reproduce", "mine.toml", "--preset", "long", "--jobs", "1")[0] == 0
    status, out, _ = run("reproduce", "mine.toml", "--jobs", "1")  # the longer run answers
    assert status == 0
    assert "1 of 1 runs are done already" in out
    assert "outdated" not in out
