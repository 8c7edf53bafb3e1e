"""Feeds mutated image files to the decoder: nothing but ImageError may come of it.

    python -m tools.fuzz_decoder --files 100000
    python -m tools.fuzz_decoder --replay 4711 --save file.bin

Each file is one of some fifty sound ones (every format, many layouts), damaged at random:
bytes and numbers replaced, parts cut out, doubled, or taken from another file. File number
k is the same in every run with the same --seed and libraries. A worker process decodes the
files; if it dies, or needs more processor time or memory for one file than allowed, that file
counts as a failure too. The exit status is 0 if there was no failure. Linux and macOS.
"""

import argparse
import io
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np
from PIL import Image

MEGABYTE = 2**20

PATIENCE = 120
"""Seconds without an answer until a worker is taken to hang, on a machine that is busy too."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=3, help="of processor time for one file (%(default)s)"
    )
    parser.add_argument("--memory", type=int, default=1024, help="in MB, peak (%(default)s)")
    parser.add_argument("--replay", type=int, metavar="K", help="decode only file number K, here")
    parser.add_argument("--save", metavar="FILE", help="with --replay: also write the file")
    arguments = parser.parse_args(argv)
    sound = sound_files()
    if arguments.replay is not None:
        return replay(sound, arguments)
    return run(sound, arguments)


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


def mutated(sound: list[tuple[str, bytes]], seed: int, number: int) -> tuple[str, bytes]:
    """File `number`: the name of the sound file that it was, and the damaged content."""
    random = np.random.default_rng([seed, number])
    name, original = sound[random.integers(len(sound))]
    content = bytearray(original)
    for _ in range(random.geometric(0.4)):  # often one change, so that the rest is read too
        if not content:
            break
        # Half of the places lie in the first 200 bytes, or the last, where directories are.
        near = int(random.integers(min(200, len(content))))
        anywhere = int(random.integers(len(content)))
        place = (near, len(content) - 1 - near, anywhere, anywhere)[random.integers(4)]
        kind = random.integers(6)
        if kind == 0:
            content[place] = random.integers(256)
        elif kind == 1:
            content[place] ^= 1 << int(random.integers(8))
        elif kind == 2:
            width = (2, 4, 8)[random.integers(3)]
            number_there = (0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1, 65536)[
                random.integers(5)
            ]
            order = ("little", "big")[random.integers(2)]
            content[place : place + width] = (number_there % 2 ** (8 * width)).to_bytes(
                width, order
            )
        elif kind == 3:
            del content[place : place + int(random.integers(1, 64))]
        elif kind == 4:
            part = content[place : place + int(random.integers(1, 64))]
            content[place:place] = part * int(random.integers(1, 4))
        else:
            other = sound[random.integers(len(sound))][1]
            start = int(random.integers(len(other)))
            part = other[start : start + int(random.integers(1, 200))]
            content[place : place + len(part)] = part
    if random.random() < 0.1:
        del content[int(random.integers(len(content) + 1)) :]
    return name, bytes(content)


def outcome(content: bytes) -> tuple[str, str]:
    """What the decoder makes of it: "decoded", the class of an ImageError, or "FAILURE"."""
    from mseenet.imaging.decoding import ImageError, decode_image

    try:
        rgb = decode_image(content)
    except ImageError as error:
        return type(error).__name__, str(error)
    except BaseException as error:  # what this search is for
        return "FAILURE", repr(error)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        return "FAILURE", f"{rgb.dtype} {rgb.shape}"
    return "decoded", ""


def work(sound: list[tuple[str, bytes]], seed: int, numbers: range, results: Connection) -> None:
    """Decodes files, and sends number, outcome, text, seconds and peak memory of each."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes a line for each oddity
    peak = _peak_memory()
    for number in numbers:
        _, content = mutated(sound, seed, number)
        start = time.process_time()  # of all threads; other work on the machine does not count
        kind, text = outcome(content)
        seconds = time.process_time() - start
        peak = max(peak, _peak_memory())
        results.send((number, kind, text, seconds, peak))
    results.close()


def run(sound: list[tuple[str, bytes]], arguments: argparse.Namespace) -> int:
    """Decodes all files, in a worker that is started anew after a failure."""
    # A fork would inherit threads of the libraries that made the sound files.
    context = multiprocessing.get_context("spawn")
    following, end = arguments.first, arguments.first + arguments.files
    counts: Counter[str] = Counter()
    slowest, largest = (0.0, -1), 0
    start = time.perf_counter()
    while following < end:
        receiver, sender = context.Pipe(duplex=False)
        numbers = range(following, end)
        worker = context.Process(target=work, args=(sound, arguments.seed, numbers, sender))
        worker.start()
        sender.close()
        while following < end:
            failure = ""
            try:
                if not receiver.poll(PATIENCE):
                    failure = f"no answer in {PATIENCE} seconds"
                else:
                    _, kind, text, seconds, peak = receiver.recv()
                    slowest = max(slowest, (seconds, following))
                    largest = max(largest, peak)
                    if kind == "FAILURE":
                        failure = text
                    elif seconds > arguments.seconds:
                        failure = f"{seconds:.1f} seconds of processor time"
                    elif peak > arguments.memory * MEGABYTE:
                        failure = f"peak memory {peak // MEGABYTE} MB"
                    else:
                        counts[kind] += 1
            except EOFError:
                worker.join()
                failure = f"the worker ended with status {worker.exitcode}"
            following += 1
            if failure:
                counts["failures"] += 1
                print(f"file {following - 1}: {failure[:300]}", flush=True)
                break
            if following % 10_000 == 0:
                print(f"{following} files ...", file=sys.stderr, flush=True)
        worker.kill()
        worker.join()
    minutes = (time.perf_counter() - start) / 60
    failures = counts.pop("failures", 0)
    print(f"{arguments.files} files from {len(sound)} sound ones in {minutes:.1f} minutes:")
    for kind, count in counts.most_common():
        print(f"  {kind}: {count}")
    print(f"  failures: {failures}")
    print(f"slowest: {slowest[0]:.2f} s (file {slowest[1]}); peak memory {largest // MEGABYTE} MB")
    return int(failures > 0)


def replay(sound: list[tuple[str, bytes]], arguments: argparse.Namespace) -> int:
    """Decodes one file in this process, where a debugger can follow."""
    name, content = mutated(sound, arguments.seed, arguments.replay)
    if arguments.save:
        with open(arguments.save, "xb") as stream:
            stream.write(content)
    start = time.perf_counter()
    kind, text = outcome(content)
    print(f"{name}, {len(content)} bytes: {kind} {text} ({time.perf_counter() - start:.2f} s)")
    return int(kind == "FAILURE")


def _peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
