import numpy as np
import pytest
from conftest import encode
from PIL import Image

from mseenet.case.cells import (
    CROP_SIDE,
    FieldCells,
    crop_jpeg,
    decisive_cells,
    geojson,
    outlines,
)
from mseenet.case.fields import Field
from mseenet.config import CLASS_NAMES
from mseenet.imaging.cells import enclosed_area
from mseenet.imaging.nuclei import find_cells
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.classifier import Prediction


def field_of(rgb: np.ndarray, seed: int, status: str = "ok", name: str = "Pre-B") -> Field:
    """An analysed field with a heatmap of its own."""
    small = np.asarray(Image.fromarray(rgb).resize((224, 224), Image.Resampling.BILINEAR))
    found = find_cells(small)
    heatmap = np.random.default_rng(seed).random((224, 224), np.float32) * (0.1 + 0.1 * seed)
    prediction = Prediction(
        status,
        name,
        dict.fromkeys(CLASS_NAMES, 0.1) | {name: 0.7},
        0.7,
        heatmap,
        name,
        nucleated_cells=found.cells.count,
        nuclei=found.packed,
    )
    return Field(f"key {seed}", f"{seed}.png", encode(rgb), prediction=prediction)


@pytest.fixture(scope="module")
def case() -> list[Field]:
    rendered = [render_field(STYLES[seed % 2], seed) for seed in range(6)]
    return [field_of(rgb, seed) for seed, rgb in enumerate(rendered)]


@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_the_most_decisive_cells_are_those_of_the_whole_case(case, limit):
    best = decisive_cells(case, "Pre-B", limit)
    everything = sorted((c.evidence for f in case for c in f.cells if c.evidence), reverse=True)
    assert [cell.evidence for _, cell in best] == everything[:limit]
    assert all(cell in field.cells for field, cell in best)


def test_fields_without_a_chance_are_not_looked_into(case):
    strong, weak = field_of(render_field(STYLES[0], 1), 9), field_of(render_field(STYLES[0], 1), 0)
    assert len(decisive_cells([weak, strong], "Pre-B", 2)) == 2
    assert "cells" in strong.__dict__
    assert "cells" not in weak.__dict__


def test_only_fields_that_are_called_so_count(case):
    rgb = render_field(STYLES[0], 1)
    others = [field_of(rgb, 7, "rejected"), field_of(rgb, 8, name="Benign")]
    assert {f.key for f, _ in decisive_cells([*case, *others], "Pre-B", 1000)} == {
        field.key for field in case
    }
    assert decisive_cells(others, "Pro-B") == []


def test_outlines_are_geojson_in_pixels_of_the_original():
    rgb = np.asarray(Image.fromarray(render_field(STYLES[0], 1)).resize((896, 448)))
    field = field_of(rgb, 3)
    collection = geojson(field)
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == len(field.cells) > 1
    for feature, cell in zip(collection["features"], field.cells, strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        assert ring[0] == ring[-1]
        x, y = np.transpose(ring)
        top, bottom, left, right = cell.box
        assert (x.min(), x.max()) == (
            pytest.approx(4 * left, abs=2),
            pytest.approx(4 * right, abs=2),
        )
        assert (y.min(), y.max()) == (
            pytest.approx(2 * top, abs=1),
            pytest.approx(2 * bottom, abs=1),
        )
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        assert properties["classification"] == {"name": "Pre-B"}
        assert properties["class"] == "Pre-B"
        assert properties["evidence_share"] == pytest.approx(cell.proportion, abs=1e-6)
        assert properties["area"] == pytest.approx(enclosed_area(np.array(ring[:-1])), rel=0.12)


def test_without_an_answer_there_are_outlines_alone(case):
    cells = FieldCells(case[0], with_answer=False)
    assert cells.crops(5) == []
    for feature in cells.geojson()["features"]:
        assert feature["properties"]["classification"] == {"name": "Nucleated cell"}
        assert feature["properties"]["class"] is feature["properties"]["evidence_share"] is None


def test_crops_are_of_the_most_decisive_cells(case):
    crops = FieldCells(case[1], with_answer=True).crops(3)
    assert [proportion for _, proportion in crops] == [
        cell.proportion for cell in case[1].cells[:3]
    ]
    for pixels, _ in crops:
        assert pixels.shape[0] == pixels.shape[1]
        assert pixels.base is None  # the field's pixels are not kept with it
    assert FieldCells(case[1], with_answer=True).crops(0) == []
    assert crop_jpeg(crops[0][0])[:2] == b"\xff\xd8"
    assert CROP_SIDE == 96


def test_a_field_without_cells_has_nothing_to_show():
    empty = field_of(np.full((224, 224, 3), 230, np.uint8), 1)
    assert empty.cells == ()
    assert outlines(empty) == []
    assert geojson(empty) == {"type": "FeatureCollection", "features": []}
    assert FieldCells(empty, with_answer=True).crops(4) == []
