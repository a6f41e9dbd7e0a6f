"""Hostile images and videos: no network, no other file, no more pixels than the limits allow."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from q_align.errors import MediaError
from q_align.media import open_frames, video

sys.path.insert(0, str(Path(__file__).parent))
from clips import make_clip

av = pytest.importorskip("av")


@pytest.fixture(params=["decord", "av"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the two decoders, alone."""
    pytest.importorskip(request.param)
    monkeypatch.setattr(video, "find_spec", lambda name: True if name == request.param else None)
    return request.param


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """The port of a local server, and the connections that it got."""
    met: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                met.append(address)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], met


@pytest.mark.parametrize("name", ["12:30 walk.mp4", "holiday:1.mp4", "pipe:0.mp4", "file:x.mp4", "a%d.mp4"])
def test_any_name_opens_its_own_file(
    name: str, clip: Path, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, name)
    frames, warning = open_frames(name)
    assert len(frames) == 3
    assert warning is None


@pytest.mark.parametrize("scheme", ["http:127.0.0.1:{}?x.mp4", "tcp:127.0.0.1:{}", "http:/127.0.0.1:{}/x.mp4"])
def test_a_name_opens_no_connection(
    scheme: str,
    clip: Path,
    backend: str,
    listener: tuple[int, list[object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, met = listener
    monkeypatch.chdir(tmp_path)
    name = Path(scheme.format(port))
    name.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clip, name)
    frames, _ = open_frames(str(name))
    assert len(frames) == 3
    assert not met


def test_links_and_dots_lead_where_the_system_says(
    clip: Path, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far/inner").mkdir(parents=True)
    shutil.copy(clip, tmp_path / "far/clip.mp4")
    (tmp_path / "near").symlink_to(tmp_path / "far/inner")
    monkeypatch.chdir(tmp_path)
    assert len(open_frames("near/../clip.mp4")[0]) == 3


def test_a_playlist_opens_no_connection(listener: tuple[int, list[object]], backend: str, tmp_path: Path) -> None:
    port, met = listener
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(MediaError):
        open_frames(tmp_path / "list.mp4")
    assert not met
