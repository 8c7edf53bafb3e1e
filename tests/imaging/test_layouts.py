"""The table in docs/reference/image-formats.md is what the decoder does."""

import layouts
import pytest

ALL = list(layouts.layouts())


@pytest.mark.parametrize("layout", ALL, ids=[f"{x.image_format} {x.name}" for x in ALL])
def test_each_layout_ends_as_stated(layout):
    assert layouts.measured(layout)[0] == layout.ends


def test_the_document_holds_the_measured_table():
    text = layouts.DOCUMENT.read_text("utf-8")
    assert layouts.document_with(layouts.table()) == text, (
        "write it anew: PYTHONPATH=. python tests/imaging/layouts.py"
    )
