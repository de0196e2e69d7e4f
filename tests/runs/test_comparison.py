"""Whether results can be written is known before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import a_job, work

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.plugins.new import new
from fedbench.runs.comparison import Comparison, check_possible, check_writable
from fedbench.runs.state import look


def test_results_that_cannot_be_written_are_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadInput, match=r"results cannot be written to .*file.*; choose another --results"):
        check_writable(tmp_path / "file" / "results")


def test_a_lock_of_another_user_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but its owner may write to a lock of mode 644; those of now are for all who share the folder."""
    job = a_job(tmp_path)
    assert work(job).ending == "done"
    lock = storage.work_path(tmp_path, job.spec, "lock")
    assert lock.stat().st_mode & 0o777 == 0o666
    check_writable(tmp_path, [job])
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != lock)
    with pytest.raises(BadInput, match=r"\.lock may not be written to: it was left by another user's run"):
        check_writable(tmp_path, [job])


def test_what_may_not_be_read_is_neither_absent_nor_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_job(tmp_path)
    assert work(job).ending == "done"
    path = storage.result_path(tmp_path, job.spec)
    path.write_text("damaged")
    assert look(job).state == "damaged"
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) not in (path, path.parent))
    with pytest.raises(BadInput):
        look(job)
    with pytest.raises(BadInput, match=f"{path.parent} may not be read"):
        list(storage.files(tmp_path))

    def is_file(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", is_file)
    with pytest.raises(BadInput, match=f"{path.parent} may not be entered"):
        look(job)


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


MADE_UP = """
import torch
from fedbench.dataset import Data, Dataset

class MadeUp(Dataset):
    title = "Made up"
    source = "none"
    network = "mlp-digits"
    cached = False

    def load(self, root):
        labels = torch.arange(400) % 10
        images = torch.zeros(400, 1, 8, 8, dtype=torch.uint8)
        return Data(images=images, labels=labels, classes=10, mean=(0.5,), std=(0.5,))
"""


def test_a_data_set_file_that_is_gone_does_not_stop_the_next_comparison(tmp_path: Path) -> None:
    """As in a notebook whose author removes a file that an earlier comparison used."""
    file = tmp_path / "made_up.py"
    file.write_text(MADE_UP)
    check_possible(Comparison(methods=["fedavg"], dataset=str(file), seeds=[1], device="cpu").jobs())
    file.unlink()
    assert len(Comparison(methods=["fedavg"], seeds=[1], device="cpu").jobs()) == 1
    with pytest.raises(BadInput, match="there is no data set file"):
        Comparison(methods=["fedavg"], dataset=str(file), seeds=[1], device="cpu").jobs()


OWN = """
from fedbench.models import mlp

def network(image, classes):
    return mlp(image, classes, 7, "own")
"""


def test_a_data_set_says_itself_how_many_clients_it_has_and_in_any_folder(tmp_path: Path) -> None:
    """Also where the class states a number besides; and the comma of a folder's name parts nothing."""
    folder = tmp_path / "one, two"
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    own = (
        MADE_UP.replace("mlp-digits", "own.py")
        + "\n    def default_clients(self, data):\n        return data.classes // 2\n"
    )
    (folder / "made_up.py").write_text(own)
    method, _ = new("method", "mine", folder)
    dataset, network = str(folder / "made_up.py"), str(folder / "own.py")
    jobs = Comparison(methods=str(method), dataset=dataset, seeds=[1], device="cpu").jobs()
    check_possible(jobs)
    assert [(job.spec.method, job.spec.network, job.spec.clients) for job in jobs] == [("mine", "own", 5)]
    both = Comparison(methods=["fedavg", str(method)], dataset=dataset, network=network)
    assert {job.spec.method for job in both.jobs()} == {"fedavg", "mine"}


def test_a_setting_in_two_spellings_is_refused(tmp_path: Path) -> None:
    twice = {"per-fedavg.local.lr": 0.1, "Per_FedAvg.local.lr": 0.2}
    with pytest.raises(BadInput, match=r"per-fedavg\.local\.lr is set twice, in two spellings"):
        Comparison(methods="per-fedavg", dataset="digits", seeds=[1], settings=twice, results=tmp_path).jobs()
