"""Where a field lies in the larger picture that it was cut from."""

import html

from mseenet.case import words
from mseenet.case.fields import Case, Field
from mseenet.ui.pictures import data_uri


def overview(case: Case, field: Field) -> str:
    """The larger picture in small, with frames where fields of the case lie, as HTML.

    Args:
        case: All frames are of its fields.
        field: One that was cut from a larger picture; its frame stands out, and the text says
            where it lies.
    """
    original, place = field.original, field.place
    if original is None or place is None:
        return ""
    width, height = original.size
    where = words.cut_from(original.name, place)
    note = html.escape(f"{where} The whole has {width:,} x {height:,} pixels.")
    frames = []
    for other in case.fields.values():
        if other.place is None or other.original is None or other.original.key != original.key:
            continue
        x, y, across, down = other.place
        parts = {
            "left": x / width,
            "top": y / height,
            "width": across / width,
            "height": down / height,
        }
        style = ";".join(f"{name}:{100 * part:.3f}%" for name, part in parts.items())
        kind = ' class="mseenet-here"' if other is field else ""
        frames.append(f'<i{kind} style="{style}"></i>')
    picture = ""
    if original.overview:
        alt = f"Overview of the whole picture, with a frame around this field. {note}"
        uri = data_uri(original.overview, "jpeg")
        # The frames lie on the box, which the picture fills: it has to have the picture's shape.
        box = f"--aspect:{width / height:.5f}"
        picture = f'<div style="{box}"><img src="{uri}" alt="{alt}">{"".join(frames)}</div>'
    caption = f"<figcaption>{note}</figcaption>"
    return f'<figure class="mseenet-overview">{picture}{caption}</figure>'
