"""The frames that are looked at are those that the paper looks at, decoded right, whatever the video."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from q_align.errors import MediaError, MissingExtraError
from q_align.media import LIMITS, Frames, Limits, is_video, open_frames, video
from q_align.media.frame_sampling import has_constant_rate, pick
from q_align.types import MediaSpec

sys.path.insert(0, str(Path(__file__).parent))
from clips import frame, make_clip, number_of, turned

av = pytest.importorskip("av")
ALL = MediaSpec(max_frames=10_000)
BACKENDS = ["decord", "av"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds at ten frames a second."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the two decoders, alone."""
    pytest.importorskip(request.param)
    monkeypatch.setattr(video, "find_spec", lambda name: True if name == request.param else None)
    return request.param


def numbers(media: object, spec: MediaSpec = ALL) -> list[int]:
    frames, warning = open_frames(media, spec, video=True)  # type: ignore[arg-type]
    assert warning is None
    return [number_of(f) for f in frames]


def test_one_frame_a_second(clip: Path, backend: str) -> None:
    assert numbers(clip) == [0, 10, 20]
    assert numbers(clip.read_bytes()) == numbers(io.BytesIO(clip.read_bytes())) == [0, 10, 20]
    frames, _ = open_frames(clip)
    assert np.abs(np.asarray(frames[1], dtype=int) - frame(10)).mean() < 4


def test_rates_counts_and_clips(clip: Path, backend: str) -> None:
    assert numbers(clip, MediaSpec(fps=2)) == [0, 5, 10, 15, 20, 25]
    assert numbers(clip, MediaSpec(fps=0, max_frames=5)) == [0, 6, 12, 18, 24]
    assert numbers(clip, MediaSpec(fps=1, max_frames=6, clip=2)) == [0, 1, 10, 11, 20, 21]
    assert numbers(clip, MediaSpec(fps=10, max_frames=3)) == [0, 10, 20]
    assert numbers(clip, MediaSpec(fps=1000, max_frames=10_000)) == list(range(30)), "no frame twice"


@pytest.mark.parametrize("count", [1, 2, 7, 10, 11])
def test_at_least_one_frame(tmp_path: Path, backend: str, count: int) -> None:
    assert numbers(make_clip(tmp_path / "short.mp4", count)) == list(range(0, max(1, count // 10 * 10), 10))


def test_variable_rate_is_sampled_by_time(tmp_path: Path, backend: str) -> None:
    times = [i * 0.1 for i in range(20)] + [2.0 + i for i in range(10)]
    assert numbers(make_clip(tmp_path / "v.mp4", times=times)) == [0, 10, *range(20, 30)]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(clip: Path, tmp_path: Path, backend: str, degrees: int) -> None:
    """The red corner of the top left moves clockwise."""
    frames, _ = open_frames(turned(clip, tmp_path / "t.mp4", degrees))
    assert frames[0].size == ((64, 96) if degrees != 180 else (96, 64))
    corner = {90: (-3, 2), 180: (-3, -3), 270: (2, -3)}[degrees]
    red, green, _ = np.asarray(frames[0], dtype=int)[corner[1], corner[0]]
    assert red > 150 and green < 100


def test_both_decoders_give_the_same_pixels(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord")
    for path in sorted((shared / "data/videos").glob("*.mp4"))[:2]:
        seen = []
        for name in BACKENDS:
            monkeypatch.setattr(video, "find_spec", lambda n, name=name: True if n == name else None)
            seen.append(open_frames(path, MediaSpec(max_frames=4))[0])
        for a, b in zip(*seen, strict=True):
            difference = np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int))
            assert difference.max() <= 3, "FFmpeg's colour conversions round differently between versions"


def test_the_paper_s_frames_of_real_videos(shared: Path) -> None:
    """Indices and pixels against the original program's loop over a plain decord reader."""
    decord = pytest.importorskip("decord")
    from q_align.score.compat import load_video

    for path in sorted((shared / "data/videos").glob("*.mp4")):
        reader = decord.VideoReader(str(path))
        fps = reader.get_avg_fps()
        wanted = [int(fps * i) for i in range(int(len(reader) / fps))]
        times = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0]
        assert pick(times, fps, ALL) == wanted, path.name
        pixels = reader.get_batch(wanted).asnumpy()
        frames = load_video(path)
        assert len(frames) == len(wanted)
        for image, expected in zip(frames, pixels):
            assert (np.asarray(image) == expected).all(), path.name


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4000),
    st.sampled_from([1.0, 10.0, 23.976, 24.0, 25.0, 29.97, 30.0, 59.94, 120.0]),
    st.integers(1, 64),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 8.0]),
    st.integers(1, 4),
)
def test_sampling_keeps_to_its_bounds(count: int, rate: float, budget: int, fps: float, clip: int) -> None:
    times = np.arange(count) / rate
    chosen = pick(times, rate, MediaSpec(fps=fps, max_frames=budget, clip=clip))
    assert chosen == sorted(set(chosen)) and 1 <= len(chosen) <= max(budget, clip)
    assert chosen[0] >= 0 and chosen[-1] < count
    if fps == 1 and clip == 1:
        whole = [int(rate * i) for i in range(int(count / rate))] or [0]
        assert set(chosen) <= set(whole)
        assert len(whole) > budget or chosen == whole
    assert has_constant_rate(times, rate)


def test_codecs_that_decord_cannot_open(tmp_path: Path) -> None:
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("no AV1 encoder here")
    made = make_clip(tmp_path / "a.mp4", codec="libsvtav1", options={"crf": "20", "svtav1-params": "log-level=0"})
    assert numbers(made) == [0, 10, 20]


@pytest.mark.parametrize("suffix", ["mkv", "avi", "mov", "ts"])
def test_containers(tmp_path: Path, suffix: str) -> None:
    made = make_clip(tmp_path / f"a.{suffix}", codec="mpeg4", options={"qscale": "2"})
    assert numbers(made) == [0, 10, 20]


def test_damage_gives_what_can_be_read_with_a_warning(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 8 // 10])
    frames, warning = open_frames(cut)
    assert [number_of(f) for f in frames] == [0, 10]
    assert warning and "\n" not in warning and "of 30 frames" in warning
    with pytest.raises(MediaError, match="of 30 frames"):
        open_frames(cut, limits=Limits(damaged="error"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2])
def test_too_little_is_an_error(clip: Path, tmp_path: Path, share: float) -> None:
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[: int(clip.stat().st_size * share)])
    with pytest.raises(MediaError) as caught:
        open_frames(tmp_path / "cut.mp4")
    assert "\n" not in str(caught.value) and "cut.mp4" in str(caught.value)


def test_no_picture_in_it(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no video stream"):
        open_frames(make_clip(tmp_path / "sound.mp4", audio=True))
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(MediaError, match="cannot be opened as a video"):
        open_frames(tmp_path / "text.mp4")


def test_large_frames_are_refused_or_scaled(clip: Path) -> None:
    with pytest.raises(MediaError, match="max_pixels"):
        open_frames(clip, limits=Limits(max_pixels=1000))
    assert open_frames(clip, MediaSpec(max_pixels=24 * 16))[0][0].size == (24, 16)


def test_what_is_a_video(clip: Path, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    (tmp_path / "wrong.mp4").write_bytes(picture.getvalue())
    (tmp_path / "wrong.jpg").write_bytes(clip.read_bytes())
    assert is_video(clip) and is_video(str(clip)) and is_video(clip.read_bytes()) and is_video("absent.webm")
    assert is_video([Image.new("RGB", (8, 8))]) and is_video(np.zeros((2, 8, 8, 3), dtype=np.uint8))
    assert not is_video(picture.getvalue()) and not is_video(picture) and not is_video("absent.jpg")
    assert not is_video(np.zeros((8, 8, 3), dtype=np.uint8)) and not is_video(Image.new("RGB", (8, 8)))
    # what a file holds counts, not its name
    assert not is_video(tmp_path / "wrong.mp4") and is_video(tmp_path / "wrong.jpg")
    assert len(open_frames(tmp_path / "wrong.mp4")[0]) == 1 and len(open_frames(tmp_path / "wrong.jpg")[0]) == 3


def test_given_frames_are_all_taken() -> None:
    frames = [frame(i) for i in range(20)]
    assert numbers(frames, MediaSpec(max_frames=2)) == list(range(20))
    assert numbers(np.stack(frames)) == list(range(20))
    for bad, reason in [([], "no frames"), (Frames([frame(0), b"x"]), "frame 1")]:
        with pytest.raises(MediaError, match=reason):
            open_frames(bad)


def test_a_list_of_files_is_not_taken_for_a_video(tmp_path: Path) -> None:
    """Three photographs became one score of three frames."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for number, path in enumerate(paths):
        Image.fromarray(frame(number)).save(path)
    for several in (paths, [str(path) for path in paths], [path.read_bytes() for path in paths], [frame(0), paths[1]]):
        with pytest.raises(MediaError, match=r"not one item: Scorer\.stream\(.*q_align\.media\.Frames\("):
            open_frames(several)  # type: ignore[arg-type]
        assert numbers(Frames(several)) == list(range(len(several)))


def test_without_a_decoder(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="video"):
        open_frames(clip)


HOUR = """
import resource, sys
from q_align.media import open_frames
from q_align.types import MediaSpec
frames, warning = open_frames(sys.argv[1], MediaSpec())
print(len(frames), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_an_hour_needs_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    peaks = []
    for seconds in (60, 3600):
        path = make_clip(tmp_path / f"{seconds}.mp4", seconds * 5, fps=5, codec="mpeg4", options={"qscale": "5"})
        out = subprocess.run([sys.executable, "-c", HOUR, str(path)], capture_output=True, text=True, check=True)
        count, peak = map(int, out.stdout.split())
        assert count == 16
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 60, f"MB of the minute and of the hour: {peaks}"


def test_what_is_no_video_says_so_once(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The reason is in the error; decoders print nothing of their own, which would stand between the rows' lines."""
    data, bad = clip.read_bytes(), {}
    for name, content in {
        "text.mp4": b"hello\n" * 50,
        "stub.mp4": data[:500],
        "header.avi": b"RIFF\0\0\0\0AVI LIST",
        "middle.mp4": data[:600] + bytes(200) + data[800:],
        "end.mp4": data[: len(data) * 9 // 10],
        "zeros.mp4": data[:8] + bytes(len(data)),
    }.items():
        (tmp_path / name).write_bytes(content)
        bad[name] = tmp_path / name
    make_clip(tmp_path / "sound.mp4", audio=True)
    for path in (*bad.values(), tmp_path / "sound.mp4"):
        for media in (path, path.read_bytes()):
            try:
                frames, _ = open_frames(media, video=True)
                assert frames
            except MediaError as error:
                assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(MediaError, match=r"text\.mp4: cannot be opened as a video .*Invalid data"):
        open_frames(bad["text.mp4"])


def test_bytes_of_any_size_are_told_apart() -> None:
    large = bytearray(LIMITS.max_bytes + 1)
    large[4:12] = b"ftypisom"
    assert is_video(memoryview(large))


@pytest.mark.parametrize("rate", [0.0, float("nan"), float("inf")])
def test_a_container_without_a_rate_is_sampled_by_its_times(rate: float) -> None:
    assert pick(np.array([0.0]), rate, MediaSpec()) == [0]
    assert pick(np.arange(40) / 10, rate, MediaSpec()) == [0, 10, 20, 30]
