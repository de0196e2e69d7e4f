"""Real `fedbench run` processes that are killed, stopped and doubled end with the numbers of one left alone."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import (
    COMMAND,
    COUNTED,
    METHODS,
    all_numbers,
    arguments,
    assert_tidy,
    finish,
    numbers,
    start,
    wait_for_checkpoint,
)

from fedbench import storage


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
