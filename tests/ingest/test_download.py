"""`--fetch-demo` against a server on this machine; no test leaves it."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from functools import partial

import pytest

from caretrace.errors import ConfigError, InputError
from caretrace.ingest import archives, demo_files, download
from caretrace.ingest.demo_files import parse_checksums, parse_demo, part_of, read_demo
from caretrace.ingest.download import fetch_demo

CONTENT = {"hosp/a.csv.gz": bytes(range(256)) * 4000, "b.csv": b"x,y\n1,2\n"}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, server, *args):
        self.shop = server
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_GET(self):
        shop, name = self.shop, self.path.removeprefix("/demo/")
        shop.asked.append((name, self.headers.get("Range")))
        if shop.failures.get(name):
            return self.send_error(shop.failures[name].pop(0))
        content = shop.content.get(name)
        if content is None:
            return self.send_error(404)
        start = 0
        if self.headers.get("Range") and shop.ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = shop.cuts.pop(name, None)
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])
        return None


class Shop:
    """What the server on this machine offers, and how it misbehaves."""

    def __init__(self):
        self.content = dict(CONTENT)
        self.content["SHA256SUMS.txt"] = self.sums()
        self.failures, self.cuts, self.asked, self.ranges = {}, {}, [], True

    def sums(self):
        return "".join(f"{sha256(body)} {name}\n" for name, body in CONTENT.items()).encode()

    def names(self):
        return [name for name, _ in self.asked]


@pytest.fixture
def shop(monkeypatch):
    shop = Shop()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, shop))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    shop.url = f"http://127.0.0.1:{server.server_address[1]}/demo/"
    monkeypatch.setattr(download, "WAITS_SECONDS", (0.0, 0.0))
    shop.demo = lambda **more: parse_demo("mine", {**known(shop), **more}, "mine/demo.yaml")
    monkeypatch.setattr(download, "read_demo", lambda _source: shop.demo())
    yield shop
    server.shutdown()
    server.server_close()
    thread.join()


def known(shop):
    return {
        "title": "A demo",
        "url": shop.url,
        "licence": "open",
        "megabytes": 1,
        "checksums_file": "SHA256SUMS.txt",
        "credentials": "Sign the agreement at https://example.org/.",
        "files": dict.fromkeys(CONTENT),
    }


def use(shop, monkeypatch, **changes):
    demo = shop.demo(**changes)
    monkeypatch.setattr(download, "read_demo", lambda _source: demo)


def lies(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_every_file_arrives_and_is_what_its_publisher_says(shop, tmp_path):
    seen = []
    files = fetch_demo("mine", tmp_path / "raw", progress=lambda *args: seen.append(args))
    assert [path.relative_to(tmp_path / "raw").as_posix() for path in files] == list(CONTENT)
    assert lies(tmp_path / "raw") == CONTENT
    size = len(CONTENT["hosp/a.csv.gz"])
    assert ("hosp/a.csv.gz", 0, size) in seen
    assert ("hosp/a.csv.gz", size, size) in seen


def test_what_is_there_is_not_fetched_again(shop, tmp_path):
    fetch_demo("mine", tmp_path)
    shop.asked.clear()
    assert len(fetch_demo("mine", tmp_path)) == 2
    assert shop.names() == ["SHA256SUMS.txt"]


def test_a_mirror_is_asked_instead_of_the_publisher(shop, tmp_path, monkeypatch):
    use(shop, monkeypatch, url="http://127.0.0.1:9/nobody/")
    fetch_demo("mine", tmp_path, base_url=shop.url.removesuffix("/"))
    assert lies(tmp_path) == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_that_was_there_is_touched(shop, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    shop.content["b.csv"] = b"x,y\n1,3\n"
    with pytest.raises(InputError, match=r"b\.csv: SHA-256 .* publisher says .*; the file was not kept"):
        fetch_demo("mine", tmp_path)
    left = lies(tmp_path)
    assert left == {"mine.txt": b"mine", "hosp/a.csv.gz": CONTENT["hosp/a.csv.gz"]}


def test_another_file_of_that_name_is_not_replaced(shop, tmp_path):
    (tmp_path / "b.csv").write_text("my own\n")
    with pytest.raises(
        InputError, match=r"b\.csv is there already but is not the file of A demo.*move it away"
    ):
        fetch_demo("mine", tmp_path)
    assert lies(tmp_path) == {"b.csv": b"my own\n"}


def test_a_checksum_known_beforehand_is_not_given_up_for_the_servers_list(shop, tmp_path, monkeypatch):
    use(shop, monkeypatch, files={"b.csv": "0" * 64})
    with pytest.raises(InputError, match="the server holds another version, so nothing was fetched"):
        fetch_demo("mine", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_an_interrupted_file_goes_on_where_it_stopped(shop, tmp_path):
    shop.cuts["hosp/a.csv.gz"] = 5000
    fetch_demo("mine", tmp_path)
    assert ("hosp/a.csv.gz", "bytes=5000-") in shop.asked
    assert lies(tmp_path) == CONTENT


def test_it_goes_on_in_the_next_call_too(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "WAITS_SECONDS", ())
    shop.cuts["hosp/a.csv.gz"] = 5000
    with pytest.raises(InputError, match=r"ended after 5,000 of 1,024,000 bytes.*run the same command again"):
        fetch_demo("mine", tmp_path)
    assert list(lies(tmp_path)) == ["hosp/.a.csv.gz.part"]
    fetch_demo("mine", tmp_path)
    assert ("hosp/a.csv.gz", "bytes=5000-") in shop.asked
    assert lies(tmp_path) == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_another_version_is_fetched_anew(shop, tmp_path, ranges):
    shop.ranges = ranges
    (tmp_path / "hosp").mkdir()
    part_of(tmp_path, "hosp/a.csv.gz").write_bytes(b"of another version")
    part_of(tmp_path, "b.csv").write_bytes(b"longer than the whole file is")
    fetch_demo("mine", tmp_path)
    assert lies(tmp_path) == CONTENT


def test_a_busy_server_is_asked_again(shop, tmp_path):
    shop.failures["b.csv"] = [503, 429]
    fetch_demo("mine", tmp_path)
    assert shop.names().count("b.csv") == 3


def test_a_server_that_stays_busy(shop, tmp_path):
    shop.failures["b.csv"] = [503] * 9
    with pytest.raises(InputError, match=r"answered 503 .*, 3 times.*--fetch-url"):
        fetch_demo("mine", tmp_path)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_login_says_what_to_sign(shop, tmp_path, status):
    shop.failures["b.csv"] = [status]
    with pytest.raises(InputError, match=r"wants a login .* Sign the agreement at https://example\.org/"):
        fetch_demo("mine", tmp_path)
    assert shop.names().count("b.csv") == 1


def test_a_file_that_moved(shop, tmp_path):
    del shop.content["b.csv"]
    with pytest.raises(InputError, match="answered 404; the publisher may have moved it"):
        fetch_demo("mine", tmp_path)


def test_no_connection(shop, tmp_path):
    with pytest.raises(InputError, match=r"no connection .*--fetch-url"):
        fetch_demo("mine", tmp_path, base_url="http://127.0.0.1:9/")


def test_a_login_page_instead_of_checksums(shop, tmp_path):
    shop.content["SHA256SUMS.txt"] = b"<html>Please log in</html>\n"
    with pytest.raises(InputError, match=r"line 1: '<html>Please log in</html>' is not `checksum name`"):
        fetch_demo("mine", tmp_path)


def test_no_room(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "free_bytes", lambda _folder: 500_000)
    with pytest.raises(InputError, match="needs 1 MB, but 0 MB are free"):
        fetch_demo("mine", tmp_path)
    assert lies(tmp_path) == {}
    use(shop, monkeypatch, megabytes=0.1)
    with pytest.raises(InputError, match=r"hosp/a\.csv\.gz needs 1 MB, but 0 MB are free"):
        fetch_demo("mine", tmp_path)


@pytest.mark.parametrize("address", ["file:///etc/", "ftp://server/", "server/folder", "http://"])
def test_an_address_that_is_none(tmp_path, address):
    with pytest.raises(ConfigError, match="is not an address such as https"):
        fetch_demo("mimic-iv", tmp_path, base_url=address)


def test_the_folder_is_a_file(shop, tmp_path):
    (tmp_path / "raw").write_text("mine")
    with pytest.raises(InputError, match="is a file; give the folder"):
        fetch_demo("mine", tmp_path / "raw")
    assert shop.asked == []


def test_names_are_picked_from_the_list_of_checksums(shop, tmp_path, monkeypatch):
    use(shop, monkeypatch, files=None, include=["*.csv.gz"])
    assert [path.name for path in fetch_demo("mine", tmp_path)] == ["a.csv.gz"]


# Archives


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in members.items():
            packed.writestr(name, body)
    return out.getvalue()


def tarred(members, **special):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, body in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            packed.addfile(entry, io.BytesIO(body))
        for name, kind in special.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            packed.addfile(entry)
    return out.getvalue()


MEMBERS = {"set/a.txt": b"one", "set/b/c.txt": b"two"}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_is_unpacked_and_gone(shop, tmp_path, monkeypatch, pack):
    shop.content["a+b.zip"] = pack(MEMBERS)
    use(shop, monkeypatch, checksums_file=None, files={"a+b.zip": {"unpack": True, "gives": ["set/a.txt"]}})
    files = fetch_demo("mine", tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in files) == list(MEMBERS)
    assert lies(tmp_path) == MEMBERS
    shop.asked.clear()
    assert fetch_demo("mine", tmp_path) == [tmp_path / "set/a.txt"]
    assert shop.asked == []


def test_leading_folders_are_taken_off(tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped(MEMBERS))
    archives.unpack(tmp_path / "x.zip", tmp_path / "out", strip=1)
    assert lies(tmp_path / "out") == {"a.txt": b"one", "b/c.txt": b"two"}


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../up.txt", "/etc/cron.d/x", "a/../../up.txt", "C:\\x.txt", "..\\up.txt"])
def test_a_name_that_leads_out_is_refused(tmp_path, pack, name):
    (tmp_path / "x.zip").write_bytes(pack({"good.txt": b"good", name: b"bad"}))
    with pytest.raises(InputError, match="leads out of the folder; nothing was written"):
        archives.unpack(tmp_path / "x.zip", tmp_path / "a" / "out")
    assert list(lies(tmp_path)) == ["x.zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar_is_refused(tmp_path, kind):
    (tmp_path / "x.tar.gz").write_bytes(tarred({"good.txt": b"good"}, bad=kind))
    with pytest.raises(InputError, match="'bad' is a link or a device"):
        archives.unpack(tmp_path / "x.tar.gz", tmp_path / "out")
    assert lies(tmp_path / "out") == {}


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        entry = zipfile.ZipInfo("bad")
        entry.external_attr = 0o120777 << 16
        packed.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match="'bad' is a link"):
        archives.unpack(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_bomb_is_refused(tmp_path, pack):
    (tmp_path / "x.zip").write_bytes(pack({"zeros.csv": b"0" * 5_000_000}))
    with pytest.raises(InputError, match="more than 200 times its size"):
        archives.unpack(tmp_path / "x.zip", tmp_path / "out")
    assert lies(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda packed: packed[:60] + b"\xff\xff\xff" + packed[63:], "is damaged"),
        (lambda packed: b"<html>Please log in</html>", "neither a zip nor a tar"),
    ],
)
def test_a_damaged_archive(tmp_path, damage, words):
    (tmp_path / "x.zip").write_bytes(damage(zipped({"a.csv": bytes(range(256)) * 20})))
    with pytest.raises(InputError, match=words):
        archives.unpack(tmp_path / "x.zip", tmp_path / "out")
    assert lies(tmp_path / "out") == {}


def test_an_archive_replaces_no_other_file(tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped(MEMBERS))
    (tmp_path / "out" / "set" / "b").mkdir(parents=True)
    (tmp_path / "out" / "set" / "b" / "c.txt").write_text("mine")
    with pytest.raises(InputError, match=r"c\.txt is there already and differs"):
        archives.unpack(tmp_path / "x.zip", tmp_path / "out")
    assert lies(tmp_path / "out") == {"set/b/c.txt": b"mine"}


# What stands in the sources' folders


@pytest.mark.parametrize("source", demo_files.demos())
def test_every_demo_can_be_read(source):
    demo = read_demo(source)
    assert demo.url.startswith("https://")
    for file in demo.files:
        assert not file.unpack or file.gives, file.name
        assert file.sha256 or demo.checksums_file or file.unpack, f"{file.name}: nothing to check it with"


def test_a_source_without_open_files_says_where_to_go(tmp_path):
    with pytest.raises(ConfigError, match=r"hospital has no open files .* --fetch-demo knows .*mimic-iv"):
        fetch_demo("hospital", tmp_path)


def test_full_data_that_need_an_account_say_what_to_sign():
    for source in ("mimic-iii", "mimic-iv", "eicu"):
        words = read_demo(source).credentials
        assert "credentialed PhysioNet account" in words
        assert "data use agreement at https://physionet.org/content/" in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"urls": "x"}, "did you mean 'url'"),
        ({"title": None, "files": {"a": "12"}}, "is not a SHA-256"),
        ({"files": {"../a": None}}, "leads out of the folder"),
        ({"files": None}, "names no file"),
        ({"files": {"a": {"unzip": True}}}, "unknown key 'unzip'"),
        ({"include": ["*"], "checksums_file": None}, "which is missing"),
    ],
)
def test_a_faulty_demo_file(changes, words):
    values = {"title": "t", "url": "https://x/", "licence": "l", "megabytes": 1, "files": {"a": None}}
    with pytest.raises((ConfigError, InputError), match=words):
        parse_demo("mine", values | changes, "mine/demo.yaml")


def test_a_list_of_checksums_cannot_name_files_elsewhere():
    digits = "a" * 64
    assert parse_checksums(f"{digits}  *./hosp/x.csv\n\n", "sums") == {"hosp/x.csv": digits}
    for name in ("../x", "/etc/x", "a/../../x", "C:/x"):
        with pytest.raises(InputError, match="leads out of the folder"):
            parse_checksums(f"{digits} {name}\n", "sums")


@pytest.mark.data
def test_the_checksums_of_mimic_iv_are_those_of_the_publisher(caretrace_data):
    folder = caretrace_data / "mimic-iv-demo-2.2"
    published = parse_checksums((folder / "SHA256SUMS.txt").read_text(), "sums")
    assert {file.name: file.sha256 for file in read_demo("mimic-iv").files} == published
    for name, checksum in published.items():
        if (folder / name).exists():
            assert sha256((folder / name).read_bytes()) == checksum, name
