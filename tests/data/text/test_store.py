"""The embedding store: what goes in comes out, once, whatever is killed, damaged or done twice."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caretrace.data.text import EmbeddingStore, Filled, fill, filling
from caretrace.data.text.encoder import TextEncoder, digest
from caretrace.data.text.store import keys_of, read_vectors, write_vectors
from caretrace.errors import ConfigError, DatasetError, ResourceError

from .toy_encoder import ToyEncoder

TEXTS = [f"text number {number} " + "x" * (number % 17) for number in range(300)]


@pytest.fixture
def small_portions(monkeypatch):
    monkeypatch.setattr(filling, "_PORTION_TEXTS", 16)


def check(folder: Path, encoder: ToyEncoder, texts: list[str]) -> EmbeddingStore:
    """Every text is there, once, with its own vector."""
    store = EmbeddingStore.open(folder, encoder)
    rows = store.find(texts)
    assert (rows >= 0).all()
    np.testing.assert_array_equal(store.look_up(rows), encoder.encode(texts).astype(np.float16))
    assert len(store) == len(set(texts))
    assert len({bytes(key) for key in store.keys}) == len(store)
    return store


def test_the_toy_is_a_text_encoder():
    assert isinstance(ToyEncoder(), TextEncoder)


def test_what_goes_in_comes_out(tmp_path):
    encoder = ToyEncoder()
    assert fill(tmp_path / "store", encoder, TEXTS + TEXTS[:50]) == Filled(texts=300, new=300, truncated=0)
    assert sorted(encoder.seen) == sorted(TEXTS)  # each once
    store = check(tmp_path / "store", encoder, TEXTS)
    assert store.find(["never seen", TEXTS[7], ""]).tolist()[::2] == [-1, -1]
    assert store.vectors.dtype == np.float16
    assert store.width == encoder.width
    assert [path.suffix for path in (tmp_path / "store").iterdir() if path.is_file()] == [".arrow"]


def test_the_vectors_stay_on_disk(tmp_path):
    encoder = ToyEncoder()
    fill(tmp_path, encoder, TEXTS)
    store = EmbeddingStore.open(tmp_path, encoder)
    assert not store.vectors.flags.owndata
    assert not store.vectors.flags.writeable
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(store.path) in maps.read_text()


def test_only_what_is_new_is_embedded_and_rows_stay(tmp_path):
    encoder = ToyEncoder()
    fill(tmp_path, encoder, TEXTS[:200])
    before = EmbeddingStore.open(tmp_path, encoder)
    rows = before.find(TEXTS[:200])
    encoder.seen.clear()
    assert fill(tmp_path, encoder, TEXTS) == Filled(texts=300, new=100, truncated=0)
    assert sorted(encoder.seen) == sorted(TEXTS[200:])
    np.testing.assert_array_equal(check(tmp_path, encoder, TEXTS).find(TEXTS[:200]), rows)
    # Whoever had the store open still reads what was there.
    np.testing.assert_array_equal(before.look_up(rows), encoder.encode(TEXTS[:200]).astype(np.float16))
    encoder.seen.clear()
    assert fill(tmp_path, encoder, TEXTS).new == 0
    assert encoder.seen == []


def test_an_empty_store_and_no_texts(tmp_path):
    encoder = ToyEncoder()
    assert fill(tmp_path, encoder, []) == Filled(0, 0, 0)
    store = EmbeddingStore.open(tmp_path, encoder)
    assert len(store) == 0
    assert store.find(["a"]).tolist() == [-1]
    assert store.find([]).shape == (0,)
    assert store.look_up(np.empty(0, np.int64)).shape == (0, encoder.width)


def test_another_encoder_is_another_file(tmp_path):
    one, other = ToyEncoder(seed=1), ToyEncoder(seed=2)
    fill(tmp_path, one, TEXTS[:50])
    fill(tmp_path, other, TEXTS[25:75])
    check(tmp_path, one, TEXTS[:50])
    check(tmp_path, other, TEXTS[25:75])


def test_keys_depend_on_encoder_and_text_alone():
    salt, other = digest({"model": "a"}), digest({"model": "b"})
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})
    np.testing.assert_array_equal(keys_of(["a", "b"], salt), keys_of(["b", "a"], salt)[::-1])
    assert (keys_of(["a"], salt) != keys_of(["a"], other)).all()


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=30))
def test_any_text_is_found_again(tmp_path_factory, texts):
    folder, encoder = tmp_path_factory.mktemp("store"), ToyEncoder()
    fill(folder, encoder, texts)
    check(folder, encoder, texts)


def test_two_texts_that_share_half_a_key_are_told_apart(tmp_path):
    salt = digest(ToyEncoder().fingerprint)
    keys = np.array([[7, 3], [7, 1], [9, 9], [7, 2]], dtype="<u8")
    store = EmbeddingStore(tmp_path, salt, keys, np.arange(8, dtype=np.float16).reshape(4, 2))
    assert store.find_keys(
        np.array([[7, 1], [7, 2], [7, 3], [7, 4], [9, 9], [9, 1], [0, 0]], "<u8")
    ).tolist() == [
        1,
        3,
        0,
        -1,
        2,
        -1,
        -1,
    ]


def test_a_row_that_is_not_there_is_refused(tmp_path):
    encoder = ToyEncoder()
    fill(tmp_path, encoder, TEXTS)
    store = EmbeddingStore.open(tmp_path, encoder)
    for row in (-1, 300):
        with pytest.raises(DatasetError, match=f"has rows 0 to 299, row {row} was asked for"):
            store.look_up(np.array([0, row]))


def test_look_up_fills_what_is_given(tmp_path):
    encoder = ToyEncoder()
    fill(tmp_path, encoder, TEXTS)
    store = EmbeddingStore.open(tmp_path, encoder)
    out = np.empty((4, encoder.width), dtype=np.float16)
    assert store.look_up(np.array([3, 3, 0, 299]), out=out) is out
    np.testing.assert_array_equal(out, store.vectors[[3, 3, 0, 299]])


def test_progress_counts_to_the_end(tmp_path, small_portions):
    encoder, calls = ToyEncoder(), []
    fill(tmp_path, encoder, TEXTS[:100])
    fill(tmp_path, encoder, TEXTS, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (300, 300)
    assert calls[0][0] > 100
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_cut_texts_are_counted(tmp_path):
    encoder = ToyEncoder(longest=20)
    cut = sum(len(text) > 20 for text in TEXTS)
    assert 0 < cut < 300
    assert fill(tmp_path, encoder, TEXTS).truncated == cut
    assert fill(tmp_path, encoder, TEXTS).truncated == 0


def test_portions_are_of_like_length_and_limited(monkeypatch):
    monkeypatch.setattr(filling, "_PORTION_TEXTS", 7)
    monkeypatch.setattr(filling, "_PORTION_CHARACTERS", 100)
    texts = ["a" * length for length in np.random.default_rng(0).integers(0, 120, 200)]
    portions = filling._portions(texts, np.arange(200))
    assert sorted(np.concatenate(portions).tolist()) == list(range(200))
    ranges = sorted(
        (min(lengths), max(lengths)) for p in portions if (lengths := [len(texts[row]) for row in p])
    )
    assert all(one[1] <= other[0] for one, other in pairwise(ranges))
    for portion in portions:
        assert len(portion) <= 7
        assert len(portion) == 1 or sum(len(texts[row]) for row in portion) <= 100


# --- precision -----------------------------------------------------------------------------------


def test_half_precision_keeps_the_direction(tmp_path):
    encoder = ToyEncoder(width=256)
    fill(tmp_path, encoder, TEXTS)
    exact = encoder.encode(TEXTS).astype(np.float64)
    store = EmbeddingStore.open(tmp_path, encoder)
    stored = store.look_up(store.find(TEXTS)).astype(np.float64)
    cosine = (exact * stored).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(stored, axis=1)
    assert cosine.min() >= 0.999


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6, -1e6])
def test_what_half_precision_cannot_hold_is_refused(tmp_path, bad):
    encoder = ToyEncoder(bad={TEXTS[5]: bad})
    with pytest.raises(ConfigError, match="gave NaN, or a number beyond"):
        fill(tmp_path, encoder, TEXTS)


def test_an_encoder_that_gives_too_few_vectors_is_refused(tmp_path):
    class Lazy(ToyEncoder):
        def encode(self, texts):
            return super().encode(texts)[:-1]

    with pytest.raises(ConfigError, match=r"gave an array of shape \(299, 8\) for 300 texts"):
        fill(tmp_path, Lazy(), TEXTS)


# --- killed, damaged, full -----------------------------------------------------------------------


class Interrupted(Exception):
    pass


def interrupted(folder: Path, after: int) -> ToyEncoder:
    """A writer that dies after some portions, each written down at once."""

    class Dying(ToyEncoder):
        def encode(self, texts):
            if len(self.seen) >= after:
                raise Interrupted
            return super().encode(texts)

    encoder = Dying()
    with pytest.raises(Interrupted):
        fill(folder, encoder, TEXTS, flush_seconds=0.0)
    return encoder


def test_what_was_done_before_a_failure_is_not_done_again(tmp_path, small_portions):
    done = interrupted(tmp_path, after=100).seen
    assert len(EmbeddingStore.open(tmp_path, ToyEncoder())) == 0  # the file appears whole
    encoder = ToyEncoder()
    assert fill(tmp_path, encoder, TEXTS).new == 300 - len(done)
    assert not set(encoder.seen) & set(done)
    check(tmp_path, encoder, TEXTS)


def script(body: str) -> list[str]:
    header = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from toy_encoder import ToyEncoder
        from caretrace.data.text import fill, filling
        filling._PORTION_TEXTS = 16
        class Slow(ToyEncoder):
            def encode(self, texts):
                time.sleep(0.03)
                return super().encode(texts)
    """
    return [sys.executable, "-c", textwrap.dedent(header) + textwrap.dedent(body)]


def test_a_killed_writer_loses_seconds_and_leaves_nothing_half_done(tmp_path):
    body = f"""
        fill(Path({str(tmp_path)!r}), Slow(), [f"text {{n}}" for n in range(2000)], flush_seconds=0.1)
    """
    texts = [f"text {number}" for number in range(2000)]
    process = subprocess.Popen(script(body))
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.segments/*.arrow"))) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob("*.arrow")) == []
    encoder = ToyEncoder()
    filled = fill(tmp_path, encoder, texts)
    assert 100 < filled.new <= 2000 - 5 * 16
    check(tmp_path, encoder, texts)
    assert list(tmp_path.glob("*.segments/*.arrow")) == []


def test_two_writers_at_once_lose_nothing_and_double_nothing(tmp_path):
    """Two processes, overlapping texts: all are there, once, and the work was shared."""
    body = """
        texts = [f"text {{n}}" for n in range({start}, {end})]
        done = Slow()
        Path({ready!r}).touch()
        while not Path({go!r}).exists():
            time.sleep(0.001)
        fill(Path({store!r}), done, texts, flush_seconds=0.0)
        Path({report!r}).write_text(str(len(done.seen)))
    """
    store, go = tmp_path / "store", tmp_path / "go"
    spans = {"one": (0, 1600), "other": (400, 2000)}
    processes = []
    for name, (start, end) in spans.items():
        paths = {"ready": str(tmp_path / f"{name}.ready"), "report": str(tmp_path / f"{name}.done")}
        processes.append(
            subprocess.Popen(script(body.format(start=start, end=end, go=str(go), store=str(store), **paths)))
        )
    while len(list(tmp_path.glob("*.ready"))) < 2:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    go.touch()
    assert [process.wait(120) for process in processes] == [0, 0]
    check(store, ToyEncoder(), [f"text {number}" for number in range(2000)])
    worked = sum(int((tmp_path / f"{name}.done").read_text()) for name in spans)
    assert 2000 <= worked < 2700  # 3,200 if each had done its own
    assert list(store.glob("*.segments/*.arrow")) == []


def test_without_the_lock_two_merges_would_lose_rows(tmp_path, small_portions, monkeypatch):
    """The control: the second merge runs between the first one's reading and writing."""
    import contextlib

    encoder = ToyEncoder()
    replace = filling._Writer._replace

    def disturbed(self, parts):
        monkeypatch.setattr(filling._Writer, "_replace", replace)
        fill(tmp_path, encoder, TEXTS[150:])
        replace(self, parts)

    monkeypatch.setattr(filling, "_locked", lambda path: contextlib.nullcontext())
    monkeypatch.setattr(filling._Writer, "_replace", disturbed)
    with contextlib.suppress(FileNotFoundError, ResourceError):
        fill(tmp_path, encoder, TEXTS[:150])
    with pytest.raises(AssertionError):
        check(tmp_path, encoder, TEXTS)


def stored(folder: Path) -> Path:
    fill(folder, ToyEncoder(), TEXTS)
    (path,) = folder.glob("*.arrow")
    return path


@pytest.mark.parametrize("size", [0, 7, 500, -8, -1])
def test_a_truncated_file_is_named_with_the_remedy(tmp_path, size):
    path = stored(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DatasetError, match=rf"{path} cannot be used .*; remove it and embed again"):
        EmbeddingStore.open(tmp_path, ToyEncoder())
    path.unlink()
    fill(tmp_path, ToyEncoder(), TEXTS)
    check(tmp_path, ToyEncoder(), TEXTS)


def test_no_changed_byte_goes_unseen(tmp_path):
    """Anywhere in the file: an error, or the same vectors (some bytes only fill gaps)."""
    path = stored(tmp_path)
    content = path.read_bytes()
    good = read_vectors(path, digest(ToyEncoder().fingerprint), 8)
    expected = [part.copy() for part in good]
    del good
    rng, refused = np.random.default_rng(0), 0
    for place in rng.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        copy = tmp_path / "copy.arrow"
        copy.write_bytes(damaged)
        try:
            found = read_vectors(copy, digest(ToyEncoder().fingerprint), 8)
        except DatasetError:
            refused += 1
            continue
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert refused > 200


def test_a_file_of_another_encoder_is_refused(tmp_path):
    path = stored(tmp_path)
    other = ToyEncoder(seed=9)
    path.rename(path.with_name(digest(other.fingerprint)[:32] + ".arrow"))
    with pytest.raises(DatasetError, match="holds vectors of another encoder"):
        EmbeddingStore.open(tmp_path, other)


def test_a_file_that_says_it_is_ours_but_is_not_is_refused(tmp_path):
    encoder = ToyEncoder()
    salt = digest(encoder.fingerprint)
    path = tmp_path / f"{salt[:32]}.arrow"
    write_vectors(path, keys_of(["a"], salt), np.zeros((1, 3), np.float16), salt=salt, about={})
    with pytest.raises(DatasetError, match="cannot be used"):
        EmbeddingStore.open(tmp_path, encoder)


def test_a_damaged_segment_is_named(tmp_path, small_portions):
    interrupted(tmp_path, after=50)
    segment = next(iter(tmp_path.glob("*.segments/*.arrow")))
    segment.write_bytes(segment.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=f"{segment} cannot be used"):
        fill(tmp_path, ToyEncoder(), TEXTS)
    segment.unlink()
    fill(tmp_path, ToyEncoder(), TEXTS)
    check(tmp_path, ToyEncoder(), TEXTS)


def test_what_a_killed_writer_left_is_swept_and_what_a_live_one_writes_is_not(tmp_path):
    stored(tmp_path)
    (segments,) = tmp_path.glob("*.segments")
    old, young = segments / ".a.arrow.1-aa.partial", segments / ".b.arrow.2-bb.partial"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    fill(tmp_path, ToyEncoder(), [*TEXTS, "one more"])
    assert not old.exists()
    assert young.exists()


def test_a_store_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "store").write_text("a file in the way")
    with pytest.raises(ResourceError, match=r"store cannot be written .*kept"):
        fill(tmp_path / "store", ToyEncoder(), TEXTS)
