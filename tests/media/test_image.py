"""Every picture is seen as a viewer would see it, and what cannot be seen is refused with a reason."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from q_align.errors import MediaError
from q_align.media import Limits, is_video, open_image, shrink


def scene(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth colours, different in every corner."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (width + height - 2)], -1)
    return Image.fromarray(rgb.astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def far(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).max())


def test_same_picture_from_every_holder(tmp_path: Path) -> None:
    data = encoded(scene(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    holders = [str(path), path, data, io.BytesIO(data), memoryview(data), scene(), np.asarray(scene())]
    for holder in holders:
        image = open_image(holder)
        assert image.mode == "RGB" and far(image, scene()) == 0, type(holder)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_is_rendered(mode: str) -> None:
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image, expected = ImageCms.profileToProfile(scene(), *profiles, outputMode="LAB"), scene()
    elif mode in ("LA", "La"):
        image, expected = scene().convert("L").convert("LA").convert(mode), scene().convert("L").convert("RGB")
    else:
        image = scene().convert({"RGBa": "RGBA"}.get(mode, mode))
        image, expected = image.convert(mode), image.convert("RGB")
    rendered = open_image(image)
    assert rendered.mode == "RGB" and rendered.size == image.size
    difference = np.abs(np.asarray(rendered, dtype=float) - np.asarray(expected, dtype=float))
    assert difference.mean() <= 2, "as Pillow renders it, within rounding of the colour space"


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(format: str) -> None:
    gray = np.asarray(scene().convert("L"))
    data = encoded(Image.fromarray(gray.astype(np.uint16) * 257), format)
    assert far(open_image(data), scene().convert("L").convert("RGB")) <= 1
    assert far(open_image(gray.astype(np.uint16) * 257), scene().convert("L").convert("RGB")) <= 1
    assert np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean() > 200, "Pillow's own conversion clips"


def test_a_dark_sixteen_bit_image_stays_dark(tmp_path: Path) -> None:
    """The depth of the file counts, not the largest value in it: an X-ray with values up to 200 of 65535 is black."""
    dark = np.linspace(0, 200, 64).astype(np.uint16).reshape(8, 8)
    for name in ("dark.png", "dark.tiff", "dark.pgm", "dark.jp2"):
        Image.fromarray(dark).save(tmp_path / name)
        assert np.asarray(open_image(tmp_path / name)).max() == 0, name
    assert np.asarray(open_image(dark)).max() == 0, "an array, by its type"
    for name in ("eight.png", "eight.tiff", "eight.pgm"):
        Image.fromarray(dark.astype(np.uint8)).save(tmp_path / name)
        assert np.asarray(open_image(tmp_path / name)).max() == 200, name
    assert np.asarray(open_image(dark.astype(np.uint8))).max() == 200
    Image.fromarray(dark.astype(np.int32)).save(tmp_path / "int32.tiff")
    for unknown in (tmp_path / "int32.tiff", Image.fromarray(dark.astype(np.int32)), dark.astype(np.int32)):
        with pytest.raises(MediaError, match=r"32.*(convert it to 8 or 16 bits|give uint8)"):
            open_image(unknown)


def test_a_tensor_is_refused_with_the_way_to_an_array() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.rand(3, 20, 30)
    with pytest.raises(MediaError, match=r"a torch tensor; give uint8 arrays") as error:
        open_image(tensor)
    code = re.search(r"0\.\.1: (\(t.*numpy\(\))", str(error.value))
    assert code is not None
    array = eval(code.group(1), {"t": tensor})
    assert far(open_image(array), Image.fromarray((tensor.permute(1, 2, 0).numpy() * 255).round().astype("uint8"))) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2]}  # how a camera that stood so would store it
    stored = scene()
    for turn in turns.get(orientation, []):
        inverse = {2: Image.Transpose.ROTATE_270, 4: Image.Transpose.ROTATE_90}
        stored = stored.transpose(inverse.get(turn, Image.Transpose(turn)))
    upright = open_image(encoded(stored, "PNG", exif=exif))
    assert upright.size == scene().size
    assert far(upright, scene()) == 0


def test_transparent_parts_show_white() -> None:
    half = scene().convert("RGBA")
    alpha = np.full((32, 48), 255, dtype=np.uint8)
    alpha[:, :24] = 0
    half.putalpha(Image.fromarray(alpha))
    for image in (half, Image.open(io.BytesIO(encoded(half, "WEBP", lossless=True, exact=True)))):
        pixels = np.asarray(open_image(image))
        assert (pixels[:, :24] == 255).all()
        assert (pixels[:, 24:] == np.asarray(scene())[:, 24:]).all()
    palette = scene().convert("P")
    data = encoded(palette, "PNG", transparency=palette.getpixel((0, 0)))
    assert open_image(data).getpixel((0, 0)) == (255, 255, 255)


def test_animations_show_their_first_frame() -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "blue", "lime")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        red, green, blue = open_image(data).getpixel((5, 5))  # type: ignore[misc]
        assert red > 200 and green < 60 and blue < 60, format
        assert not is_video(data)


def test_colour_profile_leads_to_srgb() -> None:
    """A gamma-1 profile makes the same numbers brighter; its opposite, an sRGB profile, changes nothing."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert far(open_image(encoded(scene(), "PNG", icc_profile=icc)), scene()) == 0
    wide = linear_profile(icc)
    brighter = np.asarray(open_image(encoded(scene(), "PNG", icc_profile=wide)), dtype=float)
    assert brighter.mean() > np.asarray(scene(), dtype=float).mean() + 20
    assert far(open_image(encoded(scene(), "PNG", icc_profile=b"no profile")), scene()) == 0, "ignored, as viewers do"
    assert open_image(encoded(scene().convert("CMYK"), "JPEG", icc_profile=icc)).mode == "RGB", "does not fit: ignored"


def linear_profile(srgb: bytes) -> bytes:
    """The sRGB profile with straight tone curves and another name."""
    profile = bytearray(srgb)
    count = int.from_bytes(profile[128:132], "big")
    for i in range(count):
        entry = 132 + 12 * i
        tag, start, size = (
            profile[entry : entry + 4],
            *(int.from_bytes(profile[entry + k : entry + k + 4], "big") for k in (4, 8)),
        )
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            profile[start : start + 12] = b"curv" + bytes(8)  # no points: the identity
            profile[entry + 8 : entry + 12] = (12).to_bytes(4, "big")
        elif tag == b"desc":
            text = profile[start : start + size]
            profile[start : start + size] = text.replace(
                "sRGB".encode("utf-16-be"), "line".encode("utf-16-be")
            ).replace(b"sRGB", b"line")
    return bytes(profile)


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "not an image"),
        (np.zeros((4, 4, 3), dtype=np.float32), "float32"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.zeros((4, 4, 7), dtype=np.uint8), "shape"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "shape"),
        (Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)), "not finite"),
        (io.StringIO("text"), "mode 'rb'"),
        ("nowhere/at/all.png", "no such file"),
        ("https://example.com/a.png", "allow"),
        (3.5, "not an image or a video"),
    ],
)
def test_refused_with_a_reason_in_one_line(media: object, reason: str) -> None:
    with pytest.raises(MediaError) as caught:
        open_image(media)  # type: ignore[arg-type]
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name, reason in [("", "a folder"), ("link.png", "a link to"), ("loop.png", "symbolic links|ELOOP")]:
        with pytest.raises(MediaError, match=reason):
            open_image(tmp_path / name)
    with pytest.raises(MediaError, match="not a regular file"):
        open_image("/dev/zero")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_limits_are_checked_before_decoding() -> None:
    bomb = encoded(Image.new("1", (12_000, 12_000)), "PNG")  # 144 megapixels in 2 kB
    assert len(bomb) < 50_000
    with pytest.raises(MediaError, match="max_pixels"):
        open_image(bomb)
    thin = encoded(Image.new("L", (30_000, 2)), "PNG")
    with pytest.raises(MediaError, match="max_side"):
        open_image(thin)
    with pytest.raises(MediaError, match="max_bytes"):
        open_image(thin, limits=Limits(max_bytes=10))
    assert open_image(thin, limits=Limits(max_side=30_000)).size == (30_000, 2)
    assert open_image(np.zeros((1, 1, 3), dtype=np.uint8)).size == (1, 1)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]), st.data())
def test_damage_is_an_error_or_a_picture_never_a_crash(format: str, data: st.DataObject) -> None:
    good = encoded(scene(), format)
    cut = data.draw(st.integers(0, len(good) - 1))
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=4))
    bad = bytearray(good)
    for at, value in flips:
        bad[at] = value
    for broken in (good[:cut], bytes(bad)):
        try:
            assert open_image(broken).mode == "RGB"
        except MediaError as error:
            assert "\n" not in str(error)


def test_cut_photographs_are_errors() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for format in ("JPEG", "PNG", "WEBP"):
        good = encoded(noise, format)
        with pytest.raises(MediaError):
            open_image(good[: len(good) * 3 // 4])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 5000))
def test_shrink_keeps_to_the_budget(width: int, height: int, budget: int) -> None:
    image = Image.new("RGB", (width, height))
    small = shrink(image, budget)
    assert small.width * small.height <= max(budget, small.width, small.height)
    assert (small is image) == (width * height <= budget)


def test_the_callers_picture_is_left_alone() -> None:
    image = scene().convert("L")
    image.getexif()[0x0112] = 6
    assert open_image(image).size == (32, 48)
    assert image.size == (48, 32) and image.mode == "L"
