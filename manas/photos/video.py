"""Restoring videos frame by frame, through the programs ffmpeg and ffprobe where they are installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

from manas.errors import ManasError
from manas.files import replacing
from manas.photos.picture import PixelRestorer
from manas.reach import Reach

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm")

_NOT_KEPT = {
    "subtitle": "subtitles are not kept in video",
    "video": "further video tracks and cover pictures are not kept in video",
    "attachment": "attachments are not kept in video",
    "data": "data tracks are not kept in video",
}

# What players take untagged video for, near enough; all else (PQ, HLG, BT.2020, P3) looks wrong untagged.
USUAL_COLOURS = (None, "unknown", "reserved", "bt709", "smpte170m", "bt470bg", "iec61966-2-1")

HIGH_DEFINITION = 720  # lines; videos that do not name their colours are BT.709 from here on, BT.601 below


def is_video(path: Path) -> bool:
    """Whether a file is called as videos are."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class VideoStream(NamedTuple):
    """The facts about a video that restoring it needs."""

    rate: Fraction  # frames a second
    frames: int  # about
    colours: str  # the matrix that made YUV of them
    losses: list[str]  # what of its file is not kept


def restore_video(
    restorer: PixelRestorer, source: Path, target: Path, *, progress: Reach | None = None
) -> list[str]:
    """Restores the frames of a video one by one, in 8 bit; audio is copied, H.264 (VP9 in WebM) is written.

    A varying frame rate becomes its mean, by repeating and leaving out frames. Returns what else is lost.

    Args:
        restorer: a `Restorer`, or another function that restores pixels.
        progress: called with the number of frames that are done and of all.

    Raises:
        ManasError: without ffmpeg, if it cannot read the source or write the target, and if the target is the
            source and something of it would be lost.
    """
    stream = _stream_of(source)
    if stream.losses and source.resolve() == target.resolve():
        raise ManasError(f"{source}: not replaced, since {', '.join(stream.losses)}; give -o")
    with replacing(target) as unfinished, _decoding(source, stream) as frames:
        first = next(frames, None)
        if first is None:
            raise ManasError(f"{source}: there is no frame in it; replace the file or leave it out")
        with _encoding(source, unfinished, first.shape, stream) as encoder:
            _pipe(restorer, chain([first], frames), encoder, stream.frames, progress)
    return stream.losses


def _pipe(
    restorer: PixelRestorer,
    frames: Iterator[np.ndarray],
    encoder: IO[bytes],
    total: int,
    progress: Reach | None,
) -> None:
    for done, frame in enumerate(frames, start=1):
        encoder.write(np.ascontiguousarray(restorer(frame)).data)
        if progress:
            progress(done, max(done, total))


def _stream_of(source: Path) -> VideoStream:
    wanted = "stream=codec_type,avg_frame_rate,nb_frames,height,pix_fmt,color_space,color_transfer,"
    wanted += "color_primaries:stream_disposition=attached_pic:format=duration"
    found = json.loads(_answer(["ffprobe", "-show_entries", wanted, "-of", "json"], source))
    try:
        stream, others = _main_and_others(found["streams"])
        rate = Fraction(stream["avg_frame_rate"])
        duration = float(found.get("format", {}).get("duration", 0))
        frames = int(stream.get("nb_frames", rate * Fraction(duration)))
        usual = "bt709" if stream["height"] >= HIGH_DEFINITION else "smpte170m"
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ManasError(f"{source}: there is no video in it; replace the file or leave it out") from error
    known = stream.get("color_space") in ("bt709", "smpte170m")
    return VideoStream(rate, frames, stream["color_space"] if known else usual, _losses(stream, others))


def _main_and_others(streams: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first that moves (V:0 to ffmpeg), and all others."""
    moving = [
        stream
        for stream in streams
        if stream.get("codec_type") == "video" and not stream.get("disposition", {}).get("attached_pic")
    ]
    return moving[0], [stream for stream in streams if stream is not moving[0]]


def _losses(stream: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    kinds = {other.get("codec_type", "data") for other in others}
    losses = [loss for kind, loss in _NOT_KEPT.items() if kind in kinds]
    if re.search(r"p(9|1[0-6])(le|be)$", stream.get("pix_fmt", "")):
        losses.append("more than 8 bit became 8 bit in video")
    if not {stream.get("color_transfer"), stream.get("color_primaries")}.issubset(USUAL_COLOURS):
        losses.append("colours of high dynamic range or wide gamut lose their tags in video")
    return losses


def _answer(command: list[str], source: Path) -> str:
    program = _program(command[0])
    command = [program, "-v", "error", *command[1:], _address(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise _failure(f"{source}: cannot be read as a video", done.stderr)
    return done.stdout


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise ManasError(f"restoring videos needs {name}, which is not on the PATH; install ffmpeg")
    return program


def _address(path: Path) -> str:
    """A name that ffmpeg takes for a file even where it looks like an option or an address."""
    return f"file:{path}"


@contextmanager
def _decoding(source: Path, stream: VideoStream) -> Iterator[Iterator[np.ndarray]]:
    """Its frames, (H, W, 3) uint8, turned upright; portable pixmaps, because these say their own size."""
    colours = f"scale=in_color_matrix={stream.colours}:flags=accurate_rnd+full_chroma_int+bicubic"
    output = ["-map", "0:V:0", "-vf", colours, "-r", str(stream.rate)]
    output += ["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-"]
    command = ["-i", _address(source), *output]
    with _running(
        command, f"{source}: cannot be decoded", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        yield _frames(cast(IO[bytes], process.stdout))


def _frames(pipe: IO[bytes]) -> Iterator[np.ndarray]:
    while pipe.readline() == b"P6\n":
        width, height = map(int, pipe.readline().split())
        pipe.readline()  # the largest value, 255
        content = pipe.read(3 * width * height)
        if len(content) < 3 * width * height:
            return
        yield np.frombuffer(content, np.uint8).reshape(height, width, 3)


@contextmanager
def _encoding(source: Path, target: Path, shape: tuple[int, ...], stream: VideoStream) -> Iterator[IO[bytes]]:
    height, width, _ = shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(stream.rate), "-i", "-"]
    kept = ["-i", _address(source), "-map", "0:v", "-map", "1:a?", "-c:a", "copy", "-map_metadata", "1"]
    kept += ["-metadata:s:v", "rotate=0"]
    # Halved chroma is what every player shows; it needs even sides.
    layout = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    colours = f"scale=out_color_matrix={stream.colours}:flags=accurate_rnd+full_chroma_int+bicubic"
    output = ["-vf", colours, "-pix_fmt", layout, "-colorspace", stream.colours, *_codec(target), "-y"]
    command = [*raw, *kept, *output, _address(target)]
    with _running(command, f"{target}: cannot be encoded", stdin=subprocess.PIPE) as process:
        pipe = cast(IO[bytes], process.stdin)
        yield pipe
        pipe.close()


def _codec(target: Path) -> list[str]:
    """At a quality at which encoding is not seen."""
    if target.suffix.lower() == ".webm":
        return ["-c:v", "libvpx-vp9", "-crf", "18", "-b:v", "0"]
    return ["-c:v", "libx264", "-crf", "16", "-preset", "medium"]


@contextmanager
def _running(
    command: list[str], what: str, *, stdin: int, stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg while the block runs; ManasError with its own words where it fails; it may break the pipe."""
    with tempfile.TemporaryFile() as said:
        command = [_program("ffmpeg"), "-v", "error", *command]
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=said)
        try:
            yield process
            failed = process.wait() != 0
        except BrokenPipeError:
            failed = process.wait() != 0
            if not failed:
                raise
        finally:
            _end(process)
        if failed:
            said.seek(0)
            raise _failure(what, said.read().decode(errors="replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing is left behind where the block ended early: at an error, or where the user interrupted."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            try:
                pipe.close()
            except BrokenPipeError:
                continue


def _failure(what: str, said: str) -> ManasError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return ManasError(
        f"{what} ({lines[-1] if lines else 'ffmpeg gives no reason'}); try another file or format"
    )
