"""Images as model inputs, against PIL, numpy and transformers' own processor."""

from __future__ import annotations

import io
import pickle

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessorPil

from samacli.data import EncodedImages, ImageStatistics, encode, load_splits
from samacli.recipe.schema import Data

IMAGE = "image-classification"


def load(path, **config):
    splits = load_splits(Data(train=str(path), **config), IMAGE)
    return splits


def encoded(splits, processor=None, statistics=None, **config) -> EncodedImages:
    result = encode(
        splits.train,
        splits.columns,
        IMAGE,
        processor=processor,
        config=Data(**config),
        statistics=statistics,
    )
    assert isinstance(result, EncodedImages)
    return result


def floats(images: EncodedImages, rows) -> torch.Tensor:
    return images.finish(images.__getitems__(rows))["pixel_values"]


def reference_pixels(splits, mode, size=None) -> np.ndarray:
    images = []
    for row in splits.train.rows:
        image = row["image"].convert(mode)
        if size is not None and image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        array = np.asarray(image)
        images.append(array[None] if mode == "L" else array.transpose(2, 0, 1))
    return np.stack(images)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("limit", [0, 2048])
def test_pixels_and_statistics(write_images, mode, limit):
    splits = load(write_images("set", {"a": 5, "b": 4}, mode=mode, size=(12, 10)))
    result = encoded(splits, memory_limit_mb=limit)
    assert result.in_memory == (limit > 0)
    pixels = reference_pixels(splits, mode)
    channels = 1 if mode == "L" else 3
    assert pixels.shape == (9, channels, 10, 12)
    assert np.array_equal(result.uint8_batch(range(9)).numpy(), pixels)
    scaled = pixels / 255.0
    mean, std = scaled.mean(axis=(0, 2, 3)), scaled.std(axis=(0, 2, 3))
    assert np.allclose(result.statistics.mean, mean, atol=1e-12)
    assert np.allclose(result.statistics.std, std, atol=1e-12)
    assert result.statistics.size == (10, 12)
    raw = result.__getitems__([8, 0, 3])
    assert raw["pixel_values"].dtype == torch.uint8
    batch = result.finish(raw)
    expected = (scaled - mean[:, None, None]) / std[:, None, None]
    assert np.allclose(batch["pixel_values"].numpy(), expected[[8, 0, 3]], atol=1e-5)
    assert batch["pixel_values"].dtype == torch.float32
    assert batch["labels"].tolist() == [1, 0, 0]
    assert batch["index"].tolist() == [8, 0, 3]
    assert result.lengths is None
    assert result.truncated == 0


def test_other_splits_take_the_training_split_s_statistics(write_images):
    train = load(write_images("set", {"a": 5, "b": 4}))
    other = load(write_images("other", {"a": 2, "b": 1}, mode="L", size=(30, 20), seed=5))
    statistics = encoded(train).statistics
    result = encoded(other, statistics=statistics)
    assert result.statistics == statistics
    assert result.uint8_batch([0]).shape == (1, 3, 8, 8)


def test_statistics_can_be_saved(write_images):
    statistics = encoded(load(write_images("set", {"a": 3, "b": 3}))).statistics
    assert ImageStatistics.from_dict(statistics.to_dict()) == statistics
    import json

    assert ImageStatistics.from_dict(json.loads(json.dumps(statistics.to_dict()))) == statistics


def test_different_sizes_come_to_the_first_one_s(write_images):
    root = write_images("set", {"a": 3}, size=(16, 12))
    write_images("set", {"b": 3}, size=(40, 20))
    splits = load(root)
    result = encoded(splits)
    assert result.statistics.size == (12, 16)
    assert np.array_equal(
        result.uint8_batch(range(6)).numpy(), reference_pixels(splits, "RGB", (16, 12))
    )


def test_image_size(write_images):
    splits = load(write_images("set", {"a": 3, "b": 2}, size=(16, 12)))
    result = encoded(splits, image_size=24)
    assert np.array_equal(
        result.uint8_batch(range(5)).numpy(), reference_pixels(splits, "RGB", (24, 24))
    )


def test_grey_and_colour_together_are_colour(write_images):
    root = write_images("set", {"a": 2}, mode="L")
    write_images("set", {"b": 2})
    splits = load(root)
    result = encoded(splits)
    pixels = result.uint8_batch(range(4)).numpy()
    assert np.array_equal(pixels, reference_pixels(splits, "RGB"))
    assert np.array_equal(pixels[0, 0], pixels[0, 1])


def test_a_channel_that_never_varies_is_not_scaled(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        Image.new("RGB", (4, 4), (0, 10, 255)).save(tmp_path / label / "x.png")
    statistics = encoded(load(tmp_path)).statistics
    assert statistics.std == (1.0, 1.0, 1.0)
    assert np.allclose(statistics.mean, [0, 10 / 255, 1])


# Kinds of files


def as_bytes(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def from_bytes(tmp_path, *images: bytes):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    values = {
        "image": [{"bytes": data, "path": None} for data in images],
        "label": [i % 2 for i in range(len(images))],
    }
    datasets.Dataset.from_dict(values, features).save_to_disk(str(tmp_path / "rows"))
    return load(tmp_path / "rows")


def test_sixteen_bits_keep_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    data = as_bytes(Image.fromarray(ramp))
    result = encoded(from_bytes(tmp_path, data, data))
    assert result.statistics.channels == 1
    expected = np.round(ramp * (255 / 65535)).astype(np.uint8)
    assert np.array_equal(result.uint8_batch([0])[0, 0].numpy(), expected)


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK"])
def test_modes(tmp_path, mode):
    generator = np.random.default_rng(0)
    grey = mode in ("1", "LA")
    shape = (8, 8) if grey else (8, 8, 3)
    image = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).convert(mode)
    data = as_bytes(image, "TIFF" if mode == "CMYK" else "PNG")
    result = encoded(from_bytes(tmp_path, data, data))
    assert result.statistics.channels == (1 if grey else 3)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L" if grey else "RGB"))
    found = result.uint8_batch([1])[0].numpy()
    assert np.array_equal(found[0] if grey else found.transpose(1, 2, 0), expected)


def test_orientation_is_followed(tmp_path):
    """A photograph says in its EXIF which side is up; the pixels lie as the sensor did."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    data = as_bytes(Image.fromarray(pixels), exif=exif.tobytes())
    result = encoded(from_bytes(tmp_path, data, data))
    assert result.statistics.size == (16, 8)
    upright = result.uint8_batch([0])[0, 0].numpy()
    assert np.all(upright[:8] == 0)
    assert np.all(upright[8:] == 255)


def test_jpeg(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    data = as_bytes(Image.fromarray(pixels), "JPEG")
    result = encoded(from_bytes(tmp_path, data, data))
    expected = np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1)
    assert np.array_equal(result.uint8_batch([0])[0].numpy(), expected)


# A model's own processor


def processed(processor, splits) -> torch.Tensor:
    images = [row["image"].convert("RGB") for row in splits.train.rows]
    return processor(images, return_tensors="pt")["pixel_values"]


def test_a_processor_s_layout_gives_what_the_processor_gives(write_images):
    splits = load(write_images("set", {"a": 2, "b": 2}, size=(50, 30)))
    processor = ViTImageProcessorPil(
        size={"height": 24, "width": 32}, image_mean=[0.1, 0.5, 0.4], image_std=[0.5, 0.2, 0.3]
    )
    result = encoded(splits, processor)
    expected = processed(processor, splits)
    assert torch.allclose(floats(result, range(4)), expected, atol=1e-5)


def test_grey_images_for_a_colour_model(write_images):
    splits = load(write_images("set", {"a": 2, "b": 2}, mode="L"))
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    result = encoded(splits, processor)
    expected = processed(processor, splits)
    assert torch.allclose(floats(result, range(4)), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(50, 30), (30, 50), (224, 224)])
def test_shortest_edge_and_centre_crop(write_images, size):
    from transformers import CLIPImageProcessorPil, ConvNextImageProcessorPil

    splits = load(write_images("set", {"a": 1, "b": 1}, size=size))
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.875)
    result = encoded(splits, processor)
    expected = processed(processor, splits)
    found = floats(result, [0, 1])
    assert torch.allclose(found, expected, atol=1e-5)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=24)
    found = floats(encoded(splits, processor), [0, 1])
    assert torch.allclose(found, processed(processor, splits), atol=1e-5)


def test_normalize_train_measures_even_with_a_processor(write_images):
    splits = load(write_images("set", {"a": 4, "b": 4}, mode="L"))
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    result = encoded(splits, processor, normalize="train")
    assert result.statistics.channels == 3
    assert result.statistics.size == (16, 16)
    values = floats(result, range(8))
    assert values.mean().abs() < 1e-5
    assert (values.std() - 1).abs() < 1e-2


def test_image_size_overrules_the_processor(write_images):
    splits = load(write_images("set", {"a": 1, "b": 1}))
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    assert encoded(splits, processor, image_size=20).statistics.size == (20, 20)


# Access


def test_lazy_images_survive_pickling(write_images):
    splits = load(write_images("set", {"a": 3, "b": 3}))
    result = encoded(splits, memory_limit_mb=0)
    copy = pickle.loads(pickle.dumps(result))
    assert torch.equal(copy.uint8_batch([4, 1]), result.uint8_batch([4, 1]))


def test_rows_of_a_shuffled_subset(write_images):
    splits = load(write_images("set", {"a": 10, "b": 10}), max_train_rows=7)
    pixels = reference_pixels(splits, "RGB")
    for limit in (0, 2048):
        result = encoded(splits, memory_limit_mb=limit)
        assert np.array_equal(result.uint8_batch([6, 2, 2]).numpy(), pixels[[6, 2, 2]])


def test_the_memory_limit_counts_bytes(write_images):
    splits = load(write_images("set", {"a": 2, "b": 2}, size=(600, 600)))  # 4.1 MiB as uint8
    assert not encoded(splits, memory_limit_mb=4).in_memory
    assert encoded(splits, memory_limit_mb=5).in_memory
