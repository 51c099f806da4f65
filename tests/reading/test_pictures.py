"""A picture file reads as what it shows, or is refused in one sentence that names it."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from bench.core.params import UserError
from bench.metrics.image_statistics import brightness
from bench.reading.picture import SeveralPictures, read_picture
from tests.worlds.picture_files import chunk, colours, png, save, turned

LOSSLESS = {"png": {}, "bmp": {}, "tif": {}, "webp": {"lossless": True, "exact": True}}
RGB = colours()


def pixels(path):
    return read_picture(path).pixels.numpy()


# -- depth ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_of_16_bits_is_scaled_by_its_depth(ending, tmp_path):
    path = save(tmp_path / f"a.{ending}", np.full((5, 7), 31981, np.uint16))
    assert brightness(read_picture(path).pixels) == pytest.approx(0.488, abs=0.5 / 255)
    assert read_picture(path).treatments == ("scaled",)


def test_big_endian_and_12_bit_grey_are_scaled_by_their_own_depth(tmp_path):
    big = save(tmp_path / "big.tif", np.full((5, 7), 31981, np.dtype(">u2")))
    assert (pixels(big) == 124).all()
    (tmp_path / "twelve.tif").write_bytes(grey_tiff(12, 1, bytes([0xFF, 0xF8, 0x00])))
    assert pixels(tmp_path / "twelve.tif")[0, :, 0].tolist() == [255, 128]


def grey_tiff(bits, photometric, strip, sample_format=1):
    """A little-endian TIFF of 2 x 1 grey pixels, from the definition of TIFF 6.0."""
    tags = [(256, 2), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 0)]
    tags += [(277, 1), (278, 1), (279, len(strip)), (339, sample_format)]
    at = 8 + 2 + 12 * len(tags) + 4
    fields = [struct.pack("<HHII", tag, 4, 1, at if tag == 273 else v) for tag, v in tags]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + b"".join(fields) + struct.pack("<I", 0) + strip


def test_a_tiff_whose_zero_is_white_is_read_so(tmp_path):
    path = tmp_path / "negative.tif"
    path.write_bytes(grey_tiff(16, 0, struct.pack("<HH", 0, 65535)))
    assert pixels(path)[0, :, 0].tolist() == [255, 0]


def test_floating_point_is_scaled_and_what_has_no_scale_is_refused(tmp_path):
    path = save(tmp_path / "f.tif", np.full((5, 7), 0.488, np.float32))
    assert (pixels(path) == 124).all()
    for name, values in {
        "bytes.tif": np.full((5, 7), 124, np.float32),
        "below.tif": np.full((5, 7), -0.1, np.float32),
        "nan.tif": np.full((5, 7), np.nan, np.float32),
        "integers.tif": np.full((5, 7), 124, np.int32),
    }.items():
        with pytest.raises(UserError, match=name):
            read_picture(save(tmp_path / name, values))
    (tmp_path / "signed.tif").write_bytes(grey_tiff(8, 1, b"\xff\x01", sample_format=2))
    with pytest.raises(UserError, match=r"signed\.tif.*signed integers"):
        read_picture(tmp_path / "signed.tif")


def test_colours_of_16_bits_are_read_by_their_upper_8_and_that_is_said(tmp_path):
    (tmp_path / "a.png").write_bytes(png(RGB.astype(np.uint16) * 257, 2))
    assert (pixels(tmp_path / "a.png") == RGB).all()
    assert read_picture(tmp_path / "a.png").treatments == ("upper bits",)


# -- transparency ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_hidden_colours_are_composited_on_white(ending, tmp_path):
    alpha = colours(seed=1)[..., :1]
    rgba = np.concatenate([RGB, alpha], -1)
    path = save(tmp_path / f"a.{ending}", rgba, **LOSSLESS[ending])
    share = alpha / 255
    assert np.abs(pixels(path) - (share * RGB + (1 - share) * 255)).max() <= 0.5 + 1e-9
    assert read_picture(path).treatments == ("composited",)
    opaque = np.concatenate([RGB, np.full_like(alpha, 255)], -1)
    plain = read_picture(save(path, opaque, **LOSSLESS[ending]))
    assert (plain.pixels.numpy() == RGB).all() and plain.treatments == ()


def test_a_transparent_key_colour_is_white_in_every_mode(tmp_path):
    key = tuple(map(int, RGB[0, 0]))
    image = Image.fromarray(RGB)
    image.save(tmp_path / "rgb.png", transparency=key)
    image.getchannel(0).save(tmp_path / "grey.png", transparency=key[0])
    image.getchannel(0).point(lambda v: 255 * (v < 100), "1").save(
        tmp_path / "one.png", transparency=0
    )
    palette = image.convert("P")
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    grey = np.full((5, 7), 32000, np.uint16)
    (tmp_path / "deep.png").write_bytes(png(grey, 0, chunk(b"tRNS", struct.pack(">H", 32000))))
    for name in ("rgb", "grey", "palette", "deep"):
        found = read_picture(tmp_path / f"{name}.png")
        assert found.pixels[0, 0].tolist() == [255] * 3 and "composited" in found.treatments, name
    assert (pixels(tmp_path / "one.png") == 255).all()
    key16 = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    (tmp_path / "key16.png").write_bytes(png(RGB.astype(np.uint16) * 257, 2, key16))
    with pytest.raises(UserError, match=r"key16\.png.*key colour"):
        read_picture(tmp_path / "key16.png")


# -- orientation ----------------------------------------------------------------------------------

UPRIGHT = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
"""What a viewer shows of stored pixels, from the table of EXIF 2.3 for the tag Orientation."""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_pictures_are_turned_as_viewers_turn_them(orientation, ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    save(path, RGB, exif=turned(orientation), **LOSSLESS[ending])
    assert (pixels(path) == UPRIGHT[orientation](RGB)).all()
    assert read_picture(path).treatments == ("turned TIFF" if ending == "tif" else "turned",)


def test_the_warning_about_clean_fid_is_true(tmp_path):
    """clean-fid opens files with Pillow, which turns TIFF by itself and nothing else."""
    for ending, treatment in {"png": "turned", "tif": "turned TIFF"}.items():
        path = save(tmp_path / f"a.{ending}", RGB, exif=turned(6))
        with Image.open(path) as opened:
            theirs = np.array(opened.convert("RGB"))
        assert read_picture(path).treatments == (treatment,)
        assert (theirs.shape == RGB.shape) == (treatment == "turned")


# -- broken files ---------------------------------------------------------------------------------


def test_a_bomb_a_huge_text_an_animation_and_a_folder_are_one_sentence(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(np.zeros((9, 9), np.uint16), 0, size=(60000, 60000)))
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "x" * 3_000_000, zip=True)
    save(tmp_path / "text.png", RGB, pnginfo=text)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    Image.fromarray(RGB).save(tmp_path / "gif.png", format="GIF")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError, match=path.name) as caught:
            read_picture(path)
        assert "\n" not in str(caught.value)
    more = [Image.fromarray(colours(seed=1))]
    for ending in ("png", "webp", "tif"):
        path = save(tmp_path / f"b.{ending}", RGB, save_all=True, append_images=more)
        with pytest.raises(SeveralPictures, match="2 frames"):
            read_picture(path)


@given(data=st.data(), ending=st.sampled_from([*LOSSLESS, "jpg"]))
@settings(max_examples=150, deadline=None)
def test_a_file_cut_anywhere_is_an_error_or_the_same_picture(data, ending, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    path = save(folder / f"a.{ending}", RGB, **LOSSLESS.get(ending, {}))
    whole, raw = pixels(path), path.read_bytes()
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    try:
        assert (pixels(path) == whole).all()
    except UserError as error:
        assert path.name in str(error) and "\n" not in str(error)


# -- nothing changes silently ---------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(
    pixels=SIZES.flatmap(lambda s: arrays(np.uint8, (*s, 3))), ending=st.sampled_from([*LOSSLESS])
)
@settings(max_examples=100, deadline=None)
def test_what_is_written_without_losses_reads_back(pixels, ending, tmp_path_factory):
    path = save(tmp_path_factory.mktemp("p") / f"a.{ending}", pixels, **LOSSLESS[ending])
    found = read_picture(path)
    assert torch.equal(found.pixels, torch.from_numpy(pixels)) and not found.lossy


@given(
    grey=SIZES.flatmap(lambda s: arrays(np.uint8, s)),
    depth=st.sampled_from(["L", "I;16", "F"]),
    ending=st.sampled_from(["png", "tif"]),
)
@settings(max_examples=100, deadline=None)
def test_the_same_grey_reads_the_same_at_every_depth(grey, depth, ending, tmp_path_factory):
    stored = {
        "L": grey,
        "I;16": grey.astype(np.uint16) * 257,
        "F": grey.astype(np.float32) / 255,
    }[depth]
    path = tmp_path_factory.mktemp("g") / f"a.{'tif' if depth == 'F' else ending}"
    found = pixels(save(path, stored))
    assert (found == grey[..., None]).all()


def test_losses_are_known_by_the_content_of_a_file(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", format="JPEG")
    assert read_picture(tmp_path / "a.png").lossy
    assert read_picture(save(tmp_path / "a.webp", RGB)).lossy
    assert not read_picture(save(tmp_path / "b.webp", RGB, lossless=True)).lossy
    rgba = np.concatenate([RGB, RGB[..., :1]], -1)
    assert read_picture(save(tmp_path / "c.webp", rgba)).lossy
