"""Scans of whole slides, read by regions through OpenSlide."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from made_up_scans import BLOCK, FIELD, TILE, fields_of_a_tile, tiled

from mseenet.imaging import scans
from mseenet.imaging.areas import Place, area_in
from mseenet.imaging.errors import ImageError
from mseenet.imaging.scans import ScanError, open_scan

BLOCKS = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]])


def written(folder: Path, content: bytes) -> Path:
    path = folder / "scan.tif"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> Path:
    """A scan of 147,456 x 147,456 pixels, one ninth of it with cells."""
    return written(tmp_path_factory.mktemp("scan"), tiled(BLOCKS))


def test_a_scan_is_cut_where_cells_are_in_bounded_memory(huge):
    program = (
        "import json, re, sys; from pathlib import Path;"
        "from mseenet.imaging.areas import area_in;"
        "area = area_in(Path(sys.argv[1]));"
        "cells = [rgb.shape for _, rgb in area.fields()];"
        # Not `getrusage`, which counts what the process that started it had, too.
        "status = Path('/proc/self/status').read_text();"
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024;"
        "print(json.dumps([area.picture.size, area.places, area.over_limit, area.unseen, peak]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, huge], cwd=ROOT, capture_output=True, text=True, check=True
    )
    size, places, over_limit, unseen, peak = json.loads(done.stdout)
    assert size == [3 * BLOCK, 3 * BLOCK]
    assert len(places) == 200
    assert over_limit > 0
    assert unseen > 10_000
    for x, y, width, height in places:
        assert width == pytest.approx(FIELD, rel=0.15)
        assert 2 * BLOCK - width < x < 3 * BLOCK
        assert BLOCK - height < y < 2 * BLOCK
    assert peak < 700, f"{peak} MB; all pixels would take 65,000"


def test_regions_have_the_pixels_of_the_scan(huge):
    scan = open_scan(huge)
    corner = (2 * BLOCK + 5 * TILE, BLOCK + 7 * TILE)
    np.testing.assert_array_equal(scan.read(Place(*corner, TILE, TILE)), fields_of_a_tile())
    small = scan.read(Place(*corner, 64 * TILE, 64 * TILE), TILE)
    assert TILE <= small.shape[1] < 64 * TILE


def test_a_scan_without_smaller_levels_is_refused_and_says_so(tmp_path):
    with pytest.raises(ImageError, match="expected a scan with smaller levels of at most 64 mil"):
        area_in(written(tmp_path, tiled(BLOCKS, levels=(1,))))


def test_a_damaged_scan_is_an_error_of_one_line(huge, tmp_path):
    content = bytearray(huge.read_bytes())
    content[8:200_000] = bytes(199_992)
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(content)
    with pytest.raises(ImageError, match="damaged region") as error:
        area_in(damaged)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no scan", b"II*\0"], ids=["empty", "text", "cut off"])
def test_what_is_only_named_as_a_scan_is_refused(tmp_path, content):
    path = tmp_path / "a.svs"
    path.write_bytes(content)
    with pytest.raises(ScanError, match="expected a scan that OpenSlide reads"):
        area_in(path)


def test_a_missing_extra_names_the_command_that_installs_it(huge, monkeypatch, tmp_path):
    monkeypatch.setattr(scans.importlib.util, "find_spec", lambda _: None)
    named = tmp_path / "a.svs"
    named.write_bytes(huge.read_bytes()[:100])
    for path in (named, huge):
        with pytest.raises(ScanError, match=r"run: pip install 'mseenet\[slides\]'"):
            area_in(path)
