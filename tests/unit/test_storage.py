import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from app.errors import ArtifactMissing, ServiceUnavailable, StorageFull, SynthwardError
from app.storage import ArtifactStore, FolderStore, open_store


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, object]]:
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "endpoint_url": f"http://{host}:{port}",
        "key": "k",
        "secret": "s",
        "client_kwargs": {"region_name": "eu-west-1"},
    }
    server.stop()


@pytest.fixture(params=["folder", "memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    if request.param == "memory":
        return open_store(f"memory://{tmp_path.name}")
    if (
        request.param == "local"
    ):  # fsspec's own folders stand for stores where a file shows before it is whole
        return open_store(f"local://{tmp_path}/store")
    made = open_store(f"s3://bucket/{tmp_path.name}", request.getfixturevalue("s3"))
    import s3fs

    s3fs.S3FileSystem(**request.getfixturevalue("s3")).makedirs("bucket", exist_ok=True)
    return made


def test_what_was_stored_comes_back_with_its_digest(store: ArtifactStore, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(data)
    stored = store.put_file("jobs/x/a1/data.parquet", source)
    assert (stored.bytes, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    store.fetch(stored.key, stored.sha256, back)
    assert back.read_bytes() == data
    assert store.put_bytes("jobs/x/a1/report.json", b"{}").sha256 == hashlib.sha256(b"{}").hexdigest()
    assert sorted(store.keys("jobs/x/")) == ["jobs/x/a1/data.parquet", "jobs/x/a1/report.json"]


def test_ranges_are_read_without_the_rest(store: ArtifactStore) -> None:
    store.put_bytes("k", bytes(range(256)) * 100)
    assert b"".join(store.chunks("k", 250, 1000, 64)) == (bytes(range(256)) * 100)[250:1000]
    with store.open("k", 256 * 99 + 250) as file:
        assert file.read() == bytes(range(250, 256))


def test_a_damaged_file_is_not_given_out(store: ArtifactStore, tmp_path: Path) -> None:
    stored = store.put_bytes("k", b"what was stored")
    store.put_bytes("k", b"something other")
    with pytest.raises(ArtifactMissing):
        store.fetch("k", stored.sha256, tmp_path / "back")
    assert list(tmp_path.glob("*back*")) == []


def test_what_is_absent_is_said_to_be_missing(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing):
        store.fetch("jobs/none", "0" * 64, tmp_path / "back")
    with pytest.raises(ArtifactMissing), store.open("jobs/none") as file:
        file.read()
    with pytest.raises(ArtifactMissing):
        list(store.chunks("jobs/none", 0, 10))
    assert store.keys("jobs/none/") == []


def test_a_folder_or_a_single_key_is_deleted_and_its_neighbours_stay(store: ArtifactStore) -> None:
    for key in ("jobs/a/1", "jobs/a/deep/2", "jobs/ab/3", "jobs/b"):
        store.put_bytes(key, b"x")
    store.delete_prefix("jobs/a/")
    store.delete_prefix("jobs/b")
    store.delete_prefix("jobs/never/")
    assert store.keys("jobs/") == ["jobs/ab/3"]


@contextmanager
def _in_another_thread(action: Callable[[], object]) -> Iterator[None]:
    """Do something over and over while the test goes on; raise what it raised."""
    stopping, raised = threading.Event(), []

    def work() -> None:
        try:
            while not stopping.is_set():
                action()
        except (OSError, SynthwardError) as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    assert raised == []


def test_folders_that_vanish_while_they_are_listed_are_not_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes("jobs/x/kept/part", b"")

    def come_and_go() -> None:
        for number in range(20):
            (tmp_path / f"jobs/x/s{number}/deep").mkdir(parents=True)
            (tmp_path / f"jobs/x/s{number}/deep/part").touch()
        for number in range(20):
            store.delete_prefix(f"jobs/x/s{number}/")

    with _in_another_thread(come_and_go):
        for _ in range(300):
            assert "jobs/x/kept/part" in store.keys("jobs/x/")


def test_two_may_delete_the_same_folder_at_once_while_a_third_writes(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    def write() -> None:
        with suppress(ServiceUnavailable):  # its folder was deleted under it: to be tried again
            store.put_bytes("jobs/x/late/part", b"")

    def delete() -> None:
        with suppress(ServiceUnavailable):  # a folder that is filled without end is not called deleted
            store.delete_prefix("jobs/x/")

    with _in_another_thread(write), _in_another_thread(delete):
        for _ in range(20):
            for number in range(30):
                with suppress(FileNotFoundError):
                    (tmp_path / f"jobs/x/s{number}").mkdir(parents=True, exist_ok=True)
            delete()
    store.delete_prefix("jobs/x/")
    assert not (tmp_path / "jobs/x").exists()


def test_a_folder_that_cannot_be_listed_is_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(b"a file where a folder should be")
    with pytest.raises(ServiceUnavailable):
        FolderStore(tmp_path).keys("jobs/x/")


def test_a_store_that_answers_says_so(store: ArtifactStore) -> None:
    store.ping()


def test_a_store_that_is_away_says_so(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quick = {"connect_timeout": 0.2, "read_timeout": 0.2, "retries": {"max_attempts": 0}}
    options = {"endpoint_url": f"http://127.0.0.1:{port}", "key": "k", "secret": "s", "config_kwargs": quick}
    away = open_store("s3://bucket/x", options)
    with pytest.raises(ServiceUnavailable):
        away.put_bytes("k", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ServiceUnavailable):
        open_store(str(tmp_path / "file" / "folder")).ping()


@pytest.mark.parametrize("key", ["../up", "/root", "a//b", "a/./b", ""])
def test_a_key_cannot_leave_the_store(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        FolderStore(tmp_path).put_bytes(key, b"")


FULL = """
import resource, sys
from pathlib import Path
from app.errors import StorageFull
from app.storage import FolderStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = FolderStore(Path(sys.argv[1]))
try:
    store.put_bytes("jobs/x/big", b"x" * 1_000_000)
except StorageFull:
    print(sorted(path.name for path in Path(sys.argv[1]).rglob("*")))
"""


def test_a_write_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['jobs', 'x']"
    assert StorageFull.slug == "storage-full"


def test_the_module_loads_without_fsspec() -> None:
    code = "import sys, app.storage, app.queue; sys.exit('fsspec' in sys.modules or 'celery' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
