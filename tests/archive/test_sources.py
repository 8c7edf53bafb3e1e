"""What is listed as images, wherever they lie, and what is read of them."""

import functools
import http.server
import io
import os
import tarfile
import threading
import zipfile

import object_store
import pytest
from conftest import encode

from mseenet.archive.sources import Reader, Reference, _filesystem, references
from mseenet.imaging.errors import ImageError

pytest.importorskip("pyarrow", reason="the extra `archive` is not installed")
pytest.importorskip("fsspec", reason="the extra `archive` is not installed")


@pytest.fixture(scope="module")
def images(fields) -> list[bytes]:
    return [encode(field) for field in fields]


Members = dict[str, bytes] | list[tuple[str, bytes]]


def tar_of(files: Members, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: Members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return buffer.getvalue()


def listed(*sources) -> tuple[list[Reference], list[str]]:
    problems: list[str] = []
    return list(references([str(source) for source in sources], problems.append)), problems


def contents(found: list[Reference], largest: int = 2**20) -> list[bytes]:
    reader = Reader(largest)
    return [reader.read(reference) for reference in found]


def test_a_folder_with_archives_in_it(tmp_path, images):
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "b.png").write_bytes(images[0])
    (tmp_path / "s1" / "unnamed").write_bytes(images[1])
    (tmp_path / "s1" / ".hidden.png").write_bytes(images[1])
    (tmp_path / "s1" / "notes.csv").write_text("1,2")
    (tmp_path / "s2.zip").write_bytes(zip_of({"x/c.png": images[2], "notes.txt": b"no"}))
    (tmp_path / "s3.tar").write_bytes(tar_of({"d.png": images[3], "._d.png": b"litter"}))
    found, problems = listed(tmp_path)
    assert problems == []
    names = ["s1/b.png", "s1/unnamed", "s2.zip/x/c.png", "s3.tar/d.png"]
    assert [reference.name for reference in found] == [f"{tmp_path}/{name}" for name in names]
    assert contents(found) == images


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_members_of_a_tar_are_read_in_any_order(tmp_path, images, mode):
    path = tmp_path / "archive"  # told by its content
    path.write_bytes(tar_of({f"{i}.png": image for i, image in enumerate(images)}, mode))
    found, problems = listed(path)
    assert (problems, len(found)) == ([], 4)
    assert contents(found[::-1]) == images[::-1]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_members_of_one_name_are_images_of_their_own(tmp_path, images, pack):
    path = tmp_path / "archive"
    names = ["a.png", "b.png", "a.png", "a.png (2)", "a.png", "a.png (2)"]
    members = [images[0], images[1], images[2], images[3], images[1], images[0]]
    path.write_bytes(pack(list(zip(names, members, strict=True))))
    found, problems = listed(path)
    assert problems == []
    assert [reference.name.removeprefix(f"{path}/") for reference in found] == [
        *("a.png", "b.png", "a.png (2)", "a.png (2) (2)", "a.png (3)", "a.png (2) (3)")
    ]
    assert contents(found) == members


def test_a_list_names_files_folders_and_addresses(tmp_path, images):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(images[0])
    (tmp_path / "b.png").write_bytes(images[1])
    lines = [
        tmp_path / "folder",
        "",
        (tmp_path / "b.png").as_uri(),
        tmp_path / "absent.png",
        "a\0b",
    ]
    (tmp_path / "list.txt").write_text("\n".join(map(str, lines)))
    found, problems = listed(tmp_path / "list.txt")
    assert problems == []
    assert contents(found[:2]) == images[:2]
    with pytest.raises(ImageError, match="expected a readable image file, got: No such file"):
        contents(found[2:3])
    with pytest.raises(ImageError, match="expected a readable image file, got: embedded null"):
        contents(found[3:])


def test_an_address_of_a_folder_is_searched_as_the_folder_is(tmp_path, images):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "ä b.png").write_bytes(images[0])
    (tmp_path / "s.zip").write_bytes(zip_of({"c.png": images[1]}))
    by_path, _ = listed(tmp_path)
    by_address, problems = listed(f"file://{tmp_path}")
    assert problems == []
    assert [r.name.removeprefix("file://") for r in by_address] == [r.name for r in by_path]
    assert contents(by_address) == contents(by_path)


@pytest.fixture
def web(tmp_path):
    """Address of a web server for `tmp_path`, which is reached through fsspec."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_images_of_a_web_server(tmp_path, images, web):
    pytest.importorskip("aiohttp", reason="the extra `archive` is not installed")
    (tmp_path / "a.png").write_bytes(images[0])
    found, problems = listed(f"{web}/a.png", f"{web}/absent.png")
    assert len(found) + len(problems) == 2
    assert contents(found[:1]) == images[:1]


def test_one_bad_source_is_named_and_stops_no_other(tmp_path, images):
    good = tmp_path / "good.zip"
    good.write_bytes(zip_of({"a.png": images[0]}))
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(good.read_bytes()[:-10])
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(tar_of({"a.png": images[0], "b.png": images[1]}, "w:gz")[:-2000])
    (tmp_path / "empty").mkdir()
    found, problems = listed(
        damaged, cut, tmp_path / "empty", tmp_path / "absent.txt", "nosuch://x/y", good
    )
    assert found[-1].name == f"{good}/a.png"
    assert [problem.split(": ")[0] for problem in problems] == [
        *map(str, (damaged, cut, tmp_path / "empty", tmp_path / "absent.txt")),
        "nosuch://x/y",
    ]
    assert all(len(problem.splitlines()) == 1 for problem in problems)


@pytest.mark.parametrize("named_in", ["folder", "list"])
def test_what_cannot_be_listed_stops_nothing_beside_it(tmp_path, images, named_in):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.zip").write_bytes(zip_of({"a.png": images[0]})[:-10])
    (folder / "b.tar.gz").write_bytes(tar_of({"b.png": images[1]}, "w:gz")[:-2000])
    (folder / "c.png").write_bytes(images[2])
    lines = "".join(f"{path}\n" for path in [tmp_path / "absent.txt", *sorted(folder.iterdir())])
    (tmp_path / "list.txt").write_text(lines)
    found, problems = listed(folder if named_in == "folder" else tmp_path / "list.txt")
    assert found[-1].name == f"{folder}/c.png"
    assert [problem.split(": ")[0] for problem in problems] == [
        f"{folder}/a.zip",
        f"{folder}/b.tar.gz",
    ]


@pytest.fixture
def store(monkeypatch):
    """A bucket on a server of this machine, which the environment names; see `object_store`."""
    with object_store.served() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        _filesystem.cache_clear()  # of what other tests reached
        yield store
        _filesystem.cache_clear()


@pytest.mark.slow
def test_a_bucket_is_searched_as_a_folder_is(store, images):
    special = "2019/s1/ä+ %20#?&=.png"
    store.put("2019/s1/", b"")  # as consoles of object stores make folders
    store.put("2019/s1/.hidden.png", images[0])
    store.put("2019/s1/notes.csv", b"1,2")
    store.put(special, images[0])
    store.put("2019/s1/unnamed", images[1])
    store.put("2019/s2.zip", zip_of({"x/c.png": images[2]}))
    store.put("2019/s3.tar", tar_of({"d.png": images[3]}))
    found, problems = listed("s3://slides/2019")
    assert problems == []
    names = ["s1/unnamed", special.removeprefix("2019/"), "s2.zip/x/c.png", "s3.tar/d.png"]
    assert [reference.name for reference in found] == [f"s3://slides/2019/{n}" for n in names]
    assert contents(found) == [images[1], images[0], images[2], images[3]]
    for address in ("s3://slides/2019/", "S3://slides/", "s3://slides", "s3://"):
        assert contents(listed(address)[0]) == contents(found)


@pytest.mark.slow
def test_a_bucket_of_more_objects_than_one_answer_lists(store):
    keys = [f"many/{number:04d}.png" for number in range(1005)]
    for key in keys:
        store.put(key, b"x")
    found, problems = listed("s3://slides/many")
    assert problems == []
    assert [reference.name for reference in found] == [f"s3://slides/{key}" for key in keys]


@pytest.mark.slow
def test_what_is_amiss_in_an_object_store_is_one_line(store, images):
    store.put("a.png", images[0])
    store.put("b.png", images[1])
    found, problems = listed("s3://nosuch/2019", "s3://slides/nosuch", "s3://slides/nosuch.png")
    neither = "expected a file or a folder, found neither at this address"
    assert problems == [f"s3://nosuch/2019: {neither}", f"s3://slides/nosuch: {neither}"]
    with pytest.raises(ImageError, match=r"nosuch\.png.*No such file"):
        contents(found)

    found, _ = listed("s3://slides")
    store.delete("a.png")
    with pytest.raises(ImageError, match="No such file"):
        contents(found[:1])
    assert contents(found[1:]) == [images[1]]

    store.refuse()
    (problem,) = listed("s3://slides")[1]
    assert "ACCESS_DENIED" in problem
    assert len(problem.splitlines()) == 1
    with pytest.raises(ImageError, match="ACCESS_DENIED"):
        contents(found[1:])


@pytest.mark.slow
def test_an_object_store_that_does_not_answer_is_named(store, images):
    store.put("a.png", images[0])
    found, _ = listed("s3://slides")
    store.stop()
    (problem,) = listed("s3://slides")[1]
    assert problem.startswith("s3://slides: expected a readable address (")
    assert "connect" in problem
    assert len(problem.splitlines()) == 1
    with pytest.raises(ImageError, match="connect"):
        contents(found)


def test_names_that_are_no_text(tmp_path, images):
    name = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        with open(name, "wb") as stream:
            stream.write(images[0])
    except OSError:
        pytest.skip("this file system takes only text")
    found, _ = listed(tmp_path)
    assert [reference.name for reference in found] == [f"{tmp_path}/\\udcff.png"]
    assert contents(found) == images[:1]


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_files_beyond_the_limit_are_not_read(tmp_path, images, pack):
    (tmp_path / "a.png").write_bytes(images[0])
    (tmp_path / "b").write_bytes(pack({"b.png": images[1]}))
    for reference in listed(tmp_path / "a.png", tmp_path / "b")[0]:
        with pytest.raises(ImageError, match="got a larger file"):
            Reader(1000).read(reference)


def test_an_archive_that_changed_meanwhile_is_an_error_of_its_images(tmp_path, images):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of({"a.png": images[0], "b.png": images[1]}))
    first, second = listed(path)[0]
    path.write_bytes(path.read_bytes()[: second.position + 10])
    reader = Reader(2**20)
    assert reader.read(first) == images[0]
    with pytest.raises(ImageError, match="ends early"):
        reader.read(second)


def test_few_archives_stay_open(tmp_path, images):
    for number in range(8):
        (tmp_path / f"{number}.zip").write_bytes(zip_of({"a.png": images[number % 4]}))
    found, _ = listed(tmp_path)
    assert contents([*found, *found]) == [*images, *images] * 2
