"""What is listed as images, wherever they lie, and what is read of them."""

import functools
import http.server
import io
import os
import tarfile
import threading
import zipfile

import pytest
from conftest import encode

from mseenet.archive.sources import Reader, Reference, references
from mseenet.imaging.errors import ImageError

pytest.importorskip("pyarrow", reason="the extra `archive` is not installed")
pytest.importorskip("fsspec", reason="the extra `archive` is not installed")


@pytest.fixture(scope="module")
def images(fields) -> list[bytes]:
    return [encode(field) for field in fields]


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
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
