"""Videos by frames: through ffmpeg where it is installed, and through a stand-in that can be made to fail."""

import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest

from manas.errors import ManasError
from manas.photos.restoring import restore_file
from manas.photos.video import restore_video

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)

COVER = {"codec_type": "video", "avg_frame_rate": "0/0", "height": 9, "disposition": {"attached_pic": 1}}

PROBE = """
import json, sys
if "bad" in sys.argv[-1]:
    sys.exit("moov atom not found")
streams = [{{"codec_type": "audio"}}] if "sound" in sys.argv[-1] else {streams}
print(json.dumps({{"streams": streams, "format": {{"duration": "0.1"}}}}))
"""

# Decodes the frames that the source holds as raw bytes; encodes by writing what it gets.
PROGRAM = """
import sys
from pathlib import Path
arguments = sys.argv[1:]
source = Path(arguments[arguments.index("-i") + 1].removeprefix("file:"))
if arguments[-1] == "-":
    source.with_name("arguments").write_text(" ".join(arguments))
    content = source.read_bytes()
    for start in range(0, len(content), 144):
        sys.stdout.buffer.write(b"P6\\n8 6\\n255\\n" + content[start : start + 144])
    sys.exit("invalid data" if "torn" in source.name else 0)
target = Path(arguments[-1].removeprefix("file:"))
if "full" in target.name:
    target.write_bytes(b"half")
    sys.exit("No space left on device")
target.write_bytes(sys.stdin.buffer.read())
said = target.with_name("arguments")
said.write_text(said.read_text() + " ".join(arguments))
"""


def invert(pixels, progress=None):
    return 255 - pixels


@pytest.fixture
def stand_in(request, tmp_path, monkeypatch):
    """A source of three frames of 8 x 6, and an ffmpeg that takes it for a video of 12.5 frames a second."""
    stream = {
        "codec_type": "video",
        "avg_frame_rate": "25/2",
        "nb_frames": "3",
        "height": 6,
        "pix_fmt": "yuv420p",
    }
    stream |= getattr(request, "param", {})
    streams = [*stream.pop("before", []), stream, *stream.pop("after", [])]
    (tmp_path / "bin").mkdir()
    for name, code in (("ffprobe", PROBE.format(streams=streams)), ("ffmpeg", PROGRAM)):
        script = tmp_path / "bin" / name
        script.write_text(f"#!{sys.executable}\n{code}")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "a.mp4").write_bytes(FRAMES.tobytes())
    return tmp_path


def written(folder):
    """The files beside the source, and what an ffmpeg that fails would leave."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a POSIX script")
class TestThroughAStandIn:
    def test_every_frame_is_restored_in_order(self, stand_in):
        told = []
        losses = restore_video(
            invert, stand_in / "a.mp4", stand_in / "b.mp4", progress=lambda *at: told.append(at)
        )
        assert losses == []
        assert (stand_in / "b.mp4").read_bytes() == (255 - FRAMES).tobytes()
        assert told == [(1, 3), (2, 3), (3, 3)]
        said = (stand_in / "arguments").read_text()
        for part in (
            "-map 0:V:0",
            "-s 8x6",
            "-r 25/2",
            "-map 1:a? -c:a copy",
            "-pix_fmt yuv420p",
            "out_color_matrix=smpte170m",
        ):
            assert part in said

    @pytest.mark.parametrize(
        ("stand_in", "matrix"),
        [
            ({}, "smpte170m"),
            ({"height": 720}, "bt709"),
            ({"color_space": "bt709"}, "bt709"),
            ({"height": 720, "color_space": "smpte170m"}, "smpte170m"),
        ],
        indirect=["stand_in"],
    )
    def test_colours_come_out_by_the_matrix_by_which_they_went_in(self, stand_in, matrix):
        restore_video(invert, stand_in / "a.mp4", stand_in / "b.mp4")
        said = (stand_in / "arguments").read_text()
        for part in (f"in_color_matrix={matrix}:", f"out_color_matrix={matrix}:", f"-colorspace {matrix}"):
            assert part in said

    @pytest.mark.parametrize("stand_in", [{"pix_fmt": "yuv420p10le"}], indirect=True)
    def test_more_than_eight_bit_is_said(self, stand_in):
        (loss,) = restore_video(invert, stand_in / "a.mp4", stand_in / "b.mp4")
        assert "8 bit" in loss

    @pytest.mark.parametrize(
        ("stand_in", "said"),
        [
            ({"after": [{"codec_type": "subtitle"}] * 2}, ["subtitles"]),
            ({"after": [{"codec_type": "video"}]}, ["further video tracks"]),
            ({"before": [COVER]}, ["cover pictures"]),
            ({"after": [{"codec_type": "data"}, {"codec_type": "attachment"}]}, ["attachments", "data tracks"]),
            ({"after": [{}]}, ["data tracks"]),
            ({"after": [{"codec_type": "audio"}] * 2}, []),
            ({"color_transfer": "smpte2084"}, ["high dynamic range"]),
            ({"color_primaries": "bt2020"}, ["wide gamut"]),
            ({"color_transfer": "bt709", "color_primaries": "smpte170m"}, []),
        ],
        indirect=["stand_in"],
    )
    def test_what_is_lost_is_said_and_not_lost_in_place(self, stand_in, said):
        losses = restore_video(invert, stand_in / "a.mp4", stand_in / "b.mp4")
        assert len(losses) == len(said)
        for loss, part in zip(losses, said, strict=True):
            assert part in loss
        if said:
            with pytest.raises(ManasError, match=rf"a\.mp4: not replaced, since .*{said[0]}.*; give -o"):
                restore_video(invert, stand_in / "a.mp4", stand_in / "a.mp4")
            assert (stand_in / "a.mp4").read_bytes() == FRAMES.tobytes()
        else:
            restore_video(invert, stand_in / "a.mp4", stand_in / "a.mp4")
            assert (stand_in / "a.mp4").read_bytes() == (255 - FRAMES).tobytes()

    def test_files_are_videos_by_their_name(self, stand_in):
        restore_file(invert, stand_in / "a.mp4", stand_in / "b.MKV")
        assert (stand_in / "b.MKV").read_bytes() == (255 - FRAMES).tobytes()

    @pytest.mark.parametrize(
        ("source", "target", "match"),
        [
            ("bad.mp4", "b.mp4", r"bad\.mp4: cannot be read as a video \(moov atom not found\)"),
            ("sound.mp4", "b.mp4", "there is no video in it"),
            ("empty.mp4", "b.mp4", "there is no frame in it"),
            ("torn.mp4", "b.mp4", r"torn\.mp4: cannot be decoded \(invalid data\)"),
            ("a.mp4", "full.mp4", r"full\..*mp4: cannot be encoded \(No space left on device\)"),
        ],
    )
    def test_failures_leave_nothing(self, source, target, match, stand_in):
        if source != "a.mp4":
            (stand_in / source).write_bytes(b"" if "empty" in source else FRAMES.tobytes())
        before = written(stand_in)
        with pytest.raises(ManasError, match=match):
            restore_video(invert, stand_in / source, stand_in / target)
        assert set(written(stand_in)) - {"arguments"} == set(before)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ManasError])
    def test_an_end_within_a_frame_leaves_nothing(self, error, stand_in):
        def stop(pixels):
            raise error("stop")

        before = written(stand_in)
        with pytest.raises(error):
            restore_video(stop, stand_in / "a.mp4", stand_in / "b.mp4")
        assert set(written(stand_in)) - {"arguments"} == set(before)


def test_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ManasError, match="needs ffprobe, .*install ffmpeg"):
        restore_video(invert, tmp_path / "a.mp4", tmp_path / "b.mp4")


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", *map(str, arguments)], check=True)


def frames_of(path, shape):
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(content, np.uint8).reshape(-1, *shape, 3)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
class TestThroughFfmpeg:
    @pytest.mark.parametrize("colours", ["bt709", "smpte170m", None])
    @pytest.mark.parametrize("size", ["64x48", "65x49"])
    def test_frames_rate_sound_and_colours_are_kept(self, colours, size, tmp_path):
        width, height = map(int, size.split("x"))
        clip = ["-f", "lavfi", "-i", f"gradients=size={size}:rate=30000/1001:duration=0.2:seed=1"]
        sound = ["-f", "lavfi", "-i", "sine=duration=0.2", "-shortest"]
        named = ["-colorspace", colours] if colours else []
        ffmpeg(*clip, *sound, "-pix_fmt", "yuv444p", "-crf", "1", *named, tmp_path / "a.mp4")
        restore_video(lambda pixels: pixels, tmp_path / "a.mp4", tmp_path / "b.mp4")
        before, after = (frames_of(tmp_path / name, (height, width)) for name in ("a.mp4", "b.mp4"))
        assert before.shape == after.shape
        assert len(before) == 6
        assert np.abs(before.astype(int) - after).mean() < 3
        probed = [
            subprocess.run(
                [
                    "ffprobe",
                    "-v",
                    "error",
                    "-show_entries",
                    "stream=codec_type,avg_frame_rate",
                    "-of",
                    "csv",
                    path,
                ],
                check=True,
                capture_output=True,
            ).stdout
            for path in (tmp_path / "a.mp4", tmp_path / "b.mp4")
        ]
        assert probed[0] == probed[1]

    def test_streams_that_are_not_kept_are_found(self, tmp_path):
        (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,500\nrain\n")
        clip = ["-f", "lavfi", "-i", "gradients=size=64x48:rate=5:duration=1:seed=1"]
        streams = ["-i", tmp_path / "a.srt", "-map", "0", "-map", "1"]
        ffmpeg(*clip, *streams, "-pix_fmt", "yuv420p", "-color_trc", "smpte2084", tmp_path / "a.mkv")
        subtitles, colours = restore_video(lambda pixels: pixels, tmp_path / "a.mkv", tmp_path / "b.mkv")
        assert "subtitles" in subtitles
        assert "high dynamic range" in colours

    def test_the_video_is_restored_and_not_its_cover(self, tmp_path):
        clip = ["-f", "lavfi", "-i", "gradients=size=64x48:rate=5:duration=1:seed=1"]
        ffmpeg(*clip, "-frames:v", "1", tmp_path / "cover.png")
        cover = ["-i", tmp_path / "cover.png", "-map", "1", "-map", "0", "-c:v:0", "png"]
        ffmpeg(*clip, *cover, "-disposition:v:0", "attached_pic", "-pix_fmt:v:1", "yuv420p", tmp_path / "a.mp4")
        frames = []
        (loss,) = restore_video(lambda p: frames.append(p) or p, tmp_path / "a.mp4", tmp_path / "b.mp4")
        assert len(frames) == 5
        assert "cover pictures" in loss

    def test_turned_videos_are_upright(self, tmp_path):
        clip = ["-f", "lavfi", "-i", "gradients=size=64x48:rate=5:duration=1:seed=1"]
        ffmpeg(*clip, "-pix_fmt", "yuv420p", tmp_path / "flat.mp4")
        ffmpeg("-i", tmp_path / "flat.mp4", "-c", "copy", "-metadata:s:v", "rotate=90", tmp_path / "a.mp4")
        shapes = []
        restore_video(lambda p: shapes.append(p.shape) or p, tmp_path / "a.mp4", tmp_path / "b.mp4")
        before, after = (frames_of(tmp_path / name, (64, 48)) for name in ("a.mp4", "b.mp4"))
        assert set(shapes) == {(64, 48, 3)}
        assert np.abs(before.astype(int) - after).mean() < 3
