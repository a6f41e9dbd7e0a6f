"""A pack gives the bytes, the rows and the training batches of the files it was made of, or says what is wrong."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from q_align.cli.main import main
from q_align.data.frame_cache import FrameCache
from q_align.data.image_header import pixel_counts
from q_align.data.label_files import read_labels
from q_align.data.labels import LevelLabels
from q_align.data.pack_shards import pack
from q_align.data.rated_dataset import Augmentation, Collator, RatedDataset
from q_align.errors import LabelError, MediaError
from q_align.levels import LevelScheme
from q_align.media import Limits, is_video, open_frames
from q_align.media.packed import file_of, place_of
from q_align.media.source import open_source
from q_align.types import MediaSpec


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """labels.csv of 9 pictures in two folders, one of which is rated twice."""
    rng = np.random.default_rng(0)
    rows = ["image,mos,std,split,camera"]
    for i in range(9):
        name = f"{'ab'[i % 2]}/{i}, {'ü' if i == 3 else 'x'}.png"
        path = tmp_path / "rated" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20 + i, 24, 3), dtype=np.uint8)).save(path)
        rows.append(f'"{name}",{1 + i / 2},0.5,{"val" if i == 4 else "train"},c{i}')
    rows.append('"a/0, x.png",2,0.5,train,again')
    (tmp_path / "rated" / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "rated" / "labels.csv"


def both(files: Path, folder: Path, shard_bytes: int = 6000) -> tuple[LevelLabels, LevelLabels]:
    plain = read_labels(files, mos_range=(1, 5))
    packed = read_labels(pack(plain, folder, shard_bytes=shard_bytes), mos_range=(1, 5))
    return plain.on(LevelScheme()), packed.on(LevelScheme())


def test_bytes_rows_and_ids_are_the_same(files: Path, tmp_path: Path) -> None:
    plain, packed = both(files, tmp_path / "pack")
    assert (packed.source, len(packed)) == (plain.source, 10)
    for one, other in zip(plain, packed, strict=True):
        source = open_source(other.media)
        assert not isinstance(source, Path)
        assert source.getvalue() == Path(one.media).read_bytes()
        assert (one.id, one.mos, one.std, one.task, one.extra) == (
            *(other.id, other.mos, other.std, other.task, other.extra),
        )
        assert not is_video(other.media)
    shards = sorted(p.name for p in (tmp_path / "pack").iterdir() if p.suffix == ".tar")
    assert len(shards) > 2
    assert {p.name for p in (tmp_path / "pack").iterdir()} == {*shards, "rated.csv"}
    inside = []
    for shard in shards:
        with tarfile.open(tmp_path / "pack" / shard) as tar:  # any other program can read it, too
            inside += tar.getnames()
    assert sorted(inside) == sorted({str(Path(s.media).relative_to(files.parent)) for s in plain})
    assert packed[0].media == packed[9].media
    assert (pixel_counts(packed.column("media")) == pixel_counts(plain.column("media"))).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_are_the_same(nano, files: Path, tmp_path: Path, workers: int) -> None:
    def batches(labels: LevelLabels) -> list[dict[str, torch.Tensor]]:
        data = RatedDataset([labels], nano.card, nano.encoder.opens, Augmentation(seed=3))
        loader = torch.utils.data.DataLoader(
            data,
            batch_size=3,
            sampler=[*range(10), *range(10, 20)],
            collate_fn=Collator(nano.readout),
            num_workers=workers,
        )
        return list(loader)

    ours, theirs = (batches(labels) for labels in both(files, tmp_path / "pack"))
    assert len(ours) == len(theirs) == 7
    for one, other in zip(ours, theirs):
        assert one.keys() == other.keys()
        assert one["broken"] == other["broken"] == []
        flat = [{**batch, **batch["targets"]} for batch in (one, other)]
        for name, value in flat[0].items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, flat[1][name]), name


def test_the_cache_keeps_packed_media(files: Path, tmp_path: Path) -> None:
    _, packed = both(files, tmp_path / "pack")
    spec, opened = MediaSpec(max_pixels=200), []

    def read(media: str, *args: object, **kwargs: object) -> object:
        opened.append(media)
        return open_frames(media, spec, video=False)

    cache = FrameCache(tmp_path / "cache", read)
    for _ in range(2):
        for sample in packed:
            frames, _ = cache(sample.media, spec, video=False)
            assert np.array_equal(np.asarray(frames[0]), np.asarray(open_frames(sample.media, spec)[0][0]))
    assert len(opened) == 9


def test_unusable_media_are_listed_and_nothing_is_written(files: Path, tmp_path: Path) -> None:
    (files.parent / "a" / "2, x.png").unlink()
    (files.parent / "b" / "5, x.png").write_bytes(b"")
    with pytest.raises(MediaError) as error:
        both(files, tmp_path / "pack")
    text = str(error.value)
    assert "2 of 9 files" in text and "2, x.png: No such file" in text and "5, x.png: 0 bytes" in text
    assert not (tmp_path / "pack").exists()
    (files.parent / "a" / "2, x.png").write_bytes(b"x")
    (files.parent / "b" / "5, x.png").write_bytes(b"y" * 5000)
    with pytest.raises(MediaError, match=r"1 of 9 files.*5000 bytes \(1 to 4000"):
        pack(read_labels(files, mos_range=(1, 5)), tmp_path / "pack", limits=Limits(max_bytes=4000))


def test_undecodable_media_are_reported_when_they_are_opened(files: Path, tmp_path: Path) -> None:
    (files.parent / "a" / "2, x.png").write_bytes(b"not a picture")
    _, packed = both(files, tmp_path / "pack")
    with pytest.raises(MediaError, match=r"2, x\.png: not an image"):
        open_frames(packed[2].media, MediaSpec(), video=False)


def test_an_interrupted_pack_is_resumed(files: Path, tmp_path: Path) -> None:
    plain, _ = both(files, tmp_path / "whole")
    folder = shutil.copytree(tmp_path / "whole", tmp_path / "pack")
    (folder / "rated.csv").unlink()  # killed before the labels were written
    whole = (folder / "pack-00000.tar").stat()
    cut = (folder / "pack-00001.tar").read_bytes()
    (folder / "pack-00001.tar").write_bytes(cut[:1000])  # another program's half copy
    (folder / "pack-00002.tar.part").write_bytes(b"half")
    pack(plain, folder, shard_bytes=6000)
    for path in (tmp_path / "whole").iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert len(list(folder.iterdir())) == len(list((tmp_path / "whole").iterdir()))
    kept = (folder / "pack-00000.tar").stat()
    assert (kept.st_ino, kept.st_mtime_ns) == (whole.st_ino, whole.st_mtime_ns)
    # a file that was exchanged in between is packed anew
    (folder / "rated.csv").unlink()
    path = files.parent / "a" / "0, x.png"
    path.write_bytes(path.read_bytes())
    os.utime(path, (1, 1))
    packed = read_labels(pack(plain, folder, shard_bytes=6000), mos_range=(1, 5))
    assert len(packed) == 10
    assert (folder / "pack-00000.tar").stat().st_ino != whole.st_ino


def test_foreign_folders_and_whole_packs_are_refused(files: Path, tmp_path: Path) -> None:
    plain, _ = both(files, tmp_path / "pack")
    with pytest.raises(LabelError, match="holds a whole pack"):
        pack(plain, tmp_path / "pack")
    with pytest.raises(LabelError, match=r"holds a \(3 other files\)"):
        pack(plain, files.parent)


def test_a_full_disk_leaves_whole_shards_only(files: Path, tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    plain = read_labels(files, mos_range=(1, 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # the same error on the same write
    try:
        with pytest.raises(MediaError, match=r"pack-00000\.tar.*run it again to resume"):
            pack(plain, tmp_path / "pack", shard_bytes=6000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "pack").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("pack-00000.tar@1+5/x.png", "not in the shard"),
        ("pack-00000.tar@512+5/x.png", "not in the shard"),
        ("pack-00000.tar@999999999+5/x.png", "not in the shard"),
        ("pack-00000.tar@512+999999999999/x.png", "above the limit"),
        ("pack-00009.tar@512+5/../../x.png", "no such file"),
        ("secret.tar@512+5/x.png", "not in the shard"),
    ],
)
def test_places_that_lead_elsewhere_are_refused(files: Path, tmp_path: Path, place: str, says: str) -> None:
    both(files, tmp_path / "pack")
    (tmp_path / "pack" / "secret.tar").write_bytes(b"s" * 2000)  # any other file, called a tar
    with pytest.raises(MediaError, match=says) as error:
        open_source(tmp_path / "pack" / place)
    assert "\n" not in str(error.value)


def test_names(tmp_path: Path) -> None:
    assert place_of("d/p.tar@512+7/a/b.png") == (Path("d/p.tar"), 512, 7)
    assert file_of("d/p.tar@512+7/a/b.png") == Path("d/p.tar")
    for other in ("d/p.tar", "p.tar/a.png", "p.tar@5/a.png", "a@1+2/b.png", "p.tar@1+2/", b"p.tar@1+2/a", None):
        assert place_of(other) is None
    assert file_of("a.png") == Path("a.png")


def test_the_command_packs_and_scores_alike(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pack"
    assert main(["data", "pack", str(files), str(folder), "--mos-range", "1", "5"]) == 0
    assert capsys.readouterr().out == f"{folder / 'rated.csv'}: 10 rows\n"
    plain, packed = (read_labels(f, mos_range=(1, 5)).on(LevelScheme()) for f in (files, folder / "rated.csv"))
    from q_align import Scorer

    scorer = Scorer.from_pretrained("nano", workers=0)
    ours, theirs = ([s.value for s in scorer.stream([m.media for m in x], task="iqa")] for x in (plain, packed))
    assert ours == theirs
    assert main(["data", "pack", str(files), str(folder), "--shard-mb", "0"]) == 1
    assert "--shard-mb" in capsys.readouterr().err
