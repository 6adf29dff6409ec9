"""Folders and files appear whole or not at all, whatever stops the writer."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from caretrace.errors import OutputExistsError
from caretrace.files import read_json, refuse_existing, whole_file, whole_folder, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


both = pytest.mark.parametrize("whole", [whole_folder, whole_file])


@both
def test_nothing_is_there_before_the_end_and_everything_after_it(tmp_path, whole):
    target = tmp_path / "new" / "place" / "target"
    with whole(target) as partial:
        partial.mkdir(exist_ok=True)
        assert not target.exists()
        assert partial.parent == target.parent  # on the same disk, so that a rename is enough
    assert names(target.parent) == ["target"]


def write(whole, target, text="new", then=lambda: None):
    with whole(target) as partial:
        (partial / "part" if partial.is_dir() else partial).write_text(text)
        then()


def stop(error):
    raise error


@both
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(tmp_path, whole, error):
    with pytest.raises(error):
        write(whole, tmp_path / "target", then=lambda: stop(error))
    assert names(tmp_path) == []


def test_a_taken_folder_is_refused_before_the_work(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").write_text("precious")
    with pytest.raises(
        OutputExistsError, match=r"target already exists: choose another output path or remove"
    ):
        whole_folder(tmp_path / "target").__enter__()
    assert names(tmp_path) == ["target"]
    assert (tmp_path / "target" / "mine").read_text() == "precious"


def test_an_empty_folder_is_no_obstacle(tmp_path):
    (tmp_path / "target").mkdir()
    write(whole_folder, tmp_path / "target")
    assert names(tmp_path / "target") == ["part"]


def test_refuse_existing(tmp_path):
    refuse_existing(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    refuse_existing(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputExistsError):
        refuse_existing(tmp_path / "file")


def test_of_two_writers_of_a_folder_the_first_to_end_wins_and_the_other_is_told(tmp_path):
    target = tmp_path / "target"
    with pytest.raises(OutputExistsError, match="target already exists"):
        write(whole_folder, target, "slow", then=lambda: write(whole_folder, target, "fast"))
    assert names(tmp_path) == ["target"]
    assert (target / "part").read_text() == "fast"


def test_two_writers_of_a_folder_in_one_process_do_not_touch_each_other(tmp_path):
    with whole_folder(tmp_path / "target") as first:
        (first / "part").write_text("first")
        with pytest.raises(ValueError, match="stop"):
            write(whole_folder, tmp_path / "target", then=lambda: stop(ValueError("stop")))
    assert (tmp_path / "target" / "part").read_text() == "first"


@pytest.mark.parametrize("taken", ["folder", "file", "link"])
def test_who_comes_between_the_last_look_and_the_move_wins_too(tmp_path, taken):
    """Nobody can look and move in one step, so the move itself must not overwrite."""
    target = tmp_path / "target"

    def take():
        if taken == "folder":
            target.mkdir()
            (target / "part").write_text("fast")
        elif taken == "file":
            target.write_text("fast")
        else:
            (tmp_path / "elsewhere").mkdir()
            (tmp_path / "elsewhere" / "part").write_text("fast")
            target.symlink_to("elsewhere")

    with pytest.raises(OutputExistsError, match="target already exists"):
        write(whole_folder, target, "slow", then=take)
    assert (target / "part" if target.is_dir() else target).read_text() == "fast"
    assert not list(tmp_path.glob(".*"))


def test_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "target"
    target.write_text("old")
    with pytest.raises(ValueError, match="stop"):
        write(whole_file, target, "half of the n", then=lambda: stop(ValueError("stop")))
    assert target.read_text() == "old"
    write(whole_file, target, "new")
    assert target.read_text() == "new"


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from caretrace.files import whole_file, whole_folder
    with {whole}(Path(sys.argv[1])) as partial:
        (partial / "part" if partial.is_dir() else partial).write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@both
@pytest.mark.parametrize("name", ["target", "odd [name]*"])
def test_a_killed_writer_leaves_no_target_and_the_next_one_sweeps_up(tmp_path, whole, name):
    target = tmp_path / name
    code = textwrap.dedent(KILLED.format(whole=whole.__name__))
    killed = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(names(tmp_path)) == 1
    write(whole, target)
    assert names(tmp_path) == [name]


@both
def test_a_writer_that_still_runs_is_left_alone(tmp_path, whole):
    others = tmp_path / f".target.{os.getppid()}-0123abcd.partial"
    others.mkdir()
    write(whole, tmp_path / "target")
    assert others.exists()


LOCKED = """
    import os, sys
    from pathlib import Path
    from caretrace.files import whole_folder
    with whole_folder(Path(sys.argv[1])) as partial:
        print(partial.name, flush=True)
        sys.stdin.read()
"""


def test_a_writer_in_another_container_is_left_alone(tmp_path):
    """Its process id means nothing here, but its lock does."""
    code = textwrap.dedent(LOCKED)
    command = [sys.executable, "-c", code, str(tmp_path / "target")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    partial = tmp_path / other.stdout.readline().strip()
    nobody = tmp_path / ".target.999999999-0123abcd.partial"
    partial.rename(nobody)
    write(whole_folder, tmp_path / "target")
    assert nobody.exists()
    other.kill()
    other.communicate()
    (tmp_path / "target" / "part").unlink()
    write(whole_folder, tmp_path / "target")
    assert names(tmp_path) == ["target"]


def test_json_there_and_back(tmp_path):
    value = {"a": [1, 2.5, None, True], "ü": "é"}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert "ü" in (tmp_path / "value.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object()])
def test_what_is_not_json_leaves_the_old_file(tmp_path, bad):
    write_json(tmp_path / "value.json", 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "value.json", {"a": bad})
    assert read_json(tmp_path / "value.json") == 1
    assert names(tmp_path) == ["value.json"]
