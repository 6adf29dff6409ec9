"""What the system can refuse: disk, rights, memory, another writer. A new case is one line.

Each must end with a message that names the resource and the remedy, leave nothing of its own behind, and
what was there before as it was. (A kill without warning: `test_kill.py`.)
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caretrace import files
from caretrace.dataset import Dataset
from caretrace.errors import InputError, OutputExistsError, ResourceError
from caretrace.ingest import ingest, writing
from caretrace.ingest.engines.duckdb import DuckDB
from caretrace.ingest.engines.resources import naming_what_lacks

MAIN = "from caretrace.cli import main; main()"
# Ingest as the command line does, after giving away what the first argument says.
LIMIT_FILE_SIZE = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2); {MAIN}"
# Root may write everywhere; without this right (CAP_DAC_OVERRIDE) and its sister it may not.
DROP_RIGHTS = (
    "import ctypes, os, sys; [ctypes.CDLL(None).prctl(24, right, 0, 0, 0) for right in (1, 2)]; "
    f"os.execv(sys.executable, [sys.executable, '-c', {MAIN!r}, *sys.argv[1:]])"
)
# A file system of 300 kB that only the command sees; at the end it is listed on standard output.
MOUNT = 'mount -t tmpfs -o size=300k none "$0" && "$@"; code=$?; ls -A "$0"; exit $code'
SMALL_DISK = ("unshare", "-rm", "sh", "-c", MOUNT)


@pytest.fixture
def place(tmp_path):
    """A folder for output with an earlier dataset in it, which must survive whatever happens."""
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "earlier").mkdir()
    (tmp_path / "place" / "earlier" / "mine.txt").write_text("precious")
    return tmp_path / "place"


def untouched(place: Path) -> bool:
    """Nothing but the earlier data is there, byte for byte."""
    found = [path.relative_to(place).as_posix() for path in place.rglob("*")]
    return (
        sorted(found) == ["earlier", "earlier/mine.txt"]
        and (place / "earlier" / "mine.txt").read_text() == "precious"
    )


def command_line(code: str, raw: Path, out: Path, *more: str, before: tuple[str, ...] = ()):
    arguments = ["ingest", "hospital", str(raw), str(out), "--max-quarantined", "1", "--quiet", *more]
    return subprocess.run(
        [*before, sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def no_read_only(place: Path) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def read_only(place: Path):
    place.chmod(0o555)
    try:
        yield
    finally:
        place.chmod(0o755)


@pytest.mark.parametrize(
    ("code", "more", "around", "said"),
    [
        pytest.param(
            LIMIT_FILE_SIZE, [], no_read_only, "no space left on the disk that holds", id="disk full"
        ),
        pytest.param(DROP_RIGHTS, [], read_only, "Permission denied); choose another", id="read-only"),
        pytest.param(
            MAIN, ["--memory-limit", "2MB"], no_read_only, "--memory-limit 2MB is not enough", id="memory"
        ),
    ],
)
def test_the_command_line_names_what_lacks(raw, place, code, more, around, said):
    with around(place):
        done = command_line(code, raw("hospital"), place / "out", *more)
    assert done.returncode == 1, done.stderr
    assert said in " ".join(done.stderr.split())
    assert done.stderr.startswith("caretrace: "), "a traceback is no message"
    assert ".partial" not in done.stderr, "the hidden folder is no name a user knows"
    assert untouched(place)


def test_a_disk_that_is_really_full(raw, place):
    """Where the kernel lets us mount a small one."""
    small = place.parent / "small"
    small.mkdir()
    probe = subprocess.run([*SMALL_DISK, str(small), "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("no right to mount a small file system here")
    before = (*SMALL_DISK, str(small))
    done = command_line(MAIN, raw("hospital"), small / "out", before=before)
    assert done.returncode == 1
    assert "no space left on the disk that holds" in " ".join(done.stderr.split())
    assert done.stdout == ""


def full(*_arguments, **_keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only_system(*_arguments, **_keywords):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def memory(*_arguments, **_keywords):
    raise pa.ArrowMemoryError("malloc of size 1000000000 failed")


def spilled(*_arguments, **_keywords):
    raise duckdb.OutOfMemoryException(
        "Out of Memory Error: failed to offload data block of size 256.0 KiB (60.0 GiB/60.0 GiB used).\n"
        "This limit was set by the 'max_temp_directory_size' setting."
    )


def behind(*_arguments, **_keywords):
    try:
        raise duckdb.IOException('IO Error: Could not write file "x": No space left on device')
    except duckdb.Error:
        raise InputError("vitals.csv cannot be read to its end; fetch the file again") from None


@pytest.mark.parametrize(
    ("where", "failing", "said"),
    [
        ((pq, "write_table"), full, "no space left on the disk"),
        ((shutil, "copyfile"), full, "no space left on the disk"),
        ((writing, "write_json"), full, "no space left on the disk"),
        ((pq, "write_table"), read_only_system, "Read-only file system"),
        ((Path, "mkdir"), read_only_system, "out cannot be written .Read-only file system.; choose another"),
        ((pq, "write_table"), memory, "the machine has no memory left .malloc of size 1000000000 failed"),
        ((DuckDB, "insert"), memory, "lower --memory-limit so that it spills to disk earlier"),
        ((DuckDB, "insert"), spilled, "no space left on the disk that holds"),
        ((DuckDB, "load"), behind, "no space left on the disk that holds .*No space left on device"),
    ],
)
def test_wherever_it_strikes_it_is_named(raw, place, monkeypatch, where, failing, said):
    folder = raw("hospital")
    with monkeypatch.context() as patched:
        patched.setattr(*where, failing)
        with pytest.raises(ResourceError, match=said):
            ingest("hospital", folder, place / "out")
    assert untouched(place)


@pytest.mark.parametrize(
    "other", [ValueError("odd"), duckdb.BinderException("odd"), OSError(errno.EIO, "odd")]
)
def test_other_errors_stay_what_they_are(tmp_path, other):
    with pytest.raises(type(other)), naming_what_lacks(tmp_path, "1GB"):
        raise other


def test_a_file_that_may_not_be_read_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(PermissionError), files.whole_folder(tmp_path / "place" / "out"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "raw.csv"))


@pytest.mark.slow
def test_of_two_writers_one_wins_and_the_other_is_told(raw, place):
    folder = raw("hospital")
    ingest("hospital", folder, place / "alone")
    arguments = ["ingest", "hospital", str(folder), str(place / "out"), "--max-quarantined", "1", "--quiet"]
    command = [sys.executable, "-c", MAIN, *arguments]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], errors
    said = " ".join("".join(errors).split())
    assert "out already exists: choose another output path" in said
    assert sorted(path.name for path in place.iterdir()) == ["alone", "earlier", "out"]
    for path in (place / "alone" / "data").rglob("*.parquet"):
        assert path.read_bytes() == (place / "out" / path.relative_to(place / "alone")).read_bytes()
    Dataset(place / "out")


def test_of_two_writers_in_one_process_too(raw, place, monkeypatch):
    """The second begins when the first has written all and is about to end."""
    folder = raw("hospital")
    write_splits = writing.write_splits

    def second_comes(*arguments):
        monkeypatch.setattr(writing, "write_splits", write_splits)
        ingest("hospital", folder, place / "out")
        return write_splits(*arguments)

    monkeypatch.setattr(writing, "write_splits", second_comes)
    with pytest.raises(OutputExistsError, match="out already exists"):
        ingest("hospital", folder, place / "out")
    Dataset(place / "out")
    assert sorted(path.name for path in place.iterdir()) == ["earlier", "out"]


def test_interrupted_by_ctrl_c_nothing_is_left(raw, place):
    arguments = ["ingest", "hospital", str(raw("hospital")), str(place / "out"), "--quiet"]
    process = subprocess.Popen([sys.executable, "-c", MAIN, *arguments], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(place.glob(".out.*")) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode not in (0, None), error
    assert "Traceback" not in error
    assert untouched(place)
