"""Sound image files, every format and many layouts, for the decoder to read or refuse by name."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image


def sound_files() -> list[tuple[str, bytes]]:
    """Small files that the decoder reads, or refuses by name: (name, content)."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rgb = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
    return [*_pictures(rgb), *_pillow_tiffs(rgb), *_microscope_tiffs(np.asarray(rgb))]


def _pictures(rgb: Image.Image) -> Iterator[tuple[str, bytes]]:
    """All formats but TIFF."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    several = {"save_all": True, "append_images": [rgb]}
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
        yield f"PNG {mode}", _saved(_in_mode(rgb, mode), "PNG")
    yield "PNG transparent palette", _saved(rgb.convert("P"), "PNG", transparency=3)
    yield "PNG animated", _saved(_in_mode(rgb, "L").convert("RGB"), "PNG", **several)
    for mode in ("L", "RGB", "CMYK"):
        yield f"JPEG {mode}", _saved(_in_mode(rgb, mode), "JPEG", exif=exif)
    yield "JPEG progressive", _saved(rgb, "JPEG", progressive=True, optimize=True)
    yield "MPO", _saved(rgb, "MPO", **several)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"BMP {mode}", _saved(_in_mode(rgb, mode), "BMP")
    yield "WebP", _saved(rgb, "WEBP")
    yield "WebP lossless", _saved(_in_mode(rgb, "RGBA"), "WEBP", lossless=True, exif=exif)
    yield "WebP animated", _saved(_in_mode(rgb, "RGBA"), "WEBP", **several)
    for mode in ("L", "RGBA"):
        yield f"HEIC {mode}", _saved(_in_mode(rgb, mode), "HEIF")
    yield "HEIC", _saved(rgb, "HEIF", exif=exif.tobytes())
    yield "HEIC two", _saved(rgb, "HEIF", **several)


def _pillow_tiffs(rgb: Image.Image) -> Iterator[tuple[str, bytes]]:
    for compression in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate", "zstd", "lzma"):
        yield f"TIFF {compression}", _saved(rgb, "TIFF", compression=compression)
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield f"TIFF {compression}", _saved(rgb.convert("1"), "TIFF", compression=compression)
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16"):
        yield f"TIFF {mode}", _saved(_in_mode(rgb, mode), "TIFF")
        yield f"TIFF {mode} LZW", _saved(_in_mode(rgb, mode), "TIFF", compression="tiff_lzw")


def _microscope_tiffs(pixels: np.ndarray) -> Iterator[tuple[str, bytes]]:
    import tifffile

    deep = pixels.astype(np.uint16) * 257
    planes = np.ascontiguousarray(np.moveaxis(deep, 2, 0))
    grey = {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
    layouts: dict[str, tuple[np.ndarray, dict]] = {
        "16 bits": (deep, {"rowsperstrip": 7}),
        "16 bits, big-endian": (deep, {"byteorder": ">"}),
        "planar": (planes, {"planarconfig": "separate", "compression": "zlib", "predictor": True}),
        "tiles": (deep, {"tile": (16, 16), "compression": "zlib"}),
        "BigTIFF": (pixels, {"bigtiff": True}),
        "ImageJ": (planes, grey | {"imagej": True}),
        "OME": (planes, grey | {"ome": True}),
        "tifffile": (planes, grey),
    }
    for name, (samples, options) in layouts.items():
        stream = io.BytesIO()
        tifffile.imwrite(stream, samples, **{"photometric": "rgb"} | options)
        yield f"TIFF {name}", stream.getvalue()
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(pixels, photometric="rgb", compression="zlib")
        writer.write(pixels[::2, ::2], photometric="rgb", subfiletype=1)
    yield "TIFF pyramid", stream.getvalue()


def _in_mode(rgb: Image.Image, mode: str) -> Image.Image:
    """The picture in one of Pillow's modes, with an opacity that varies."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(rgb)[..., 0].astype(np.uint16) * 257)
    image = rgb.convert("RGBA")
    image.putalpha(rgb.convert("L"))
    return image.convert(mode)


def _saved(image: Image.Image, image_format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()
