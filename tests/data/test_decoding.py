"""Images decoded batch by batch: random-resized crops, workers, and what cannot be decoded."""

from __future__ import annotations

import io
import shutil

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from samacli.data import (
    EncodedImages,
    cycle,
    decoding_workers,
    encode,
    load_splits,
    make_loader,
)
from samacli.data import images as images_module
from samacli.data.carve import subset, subset_of
from samacli.data.pixels import random_box
from samacli.errors import SamaError
from samacli.recipe.schema import Data

IMAGE = "image-classification"


def lazily(splits, **config) -> EncodedImages:
    found = encode(splits.train, splits.columns, IMAGE, config=Data(**config), hold=False)
    assert isinstance(found, EncodedImages)
    assert not found.in_memory
    return found


@pytest.mark.parametrize(("width", "height"), [(50, 37), (20, 64)])
def test_boxes_have_the_area_and_the_ratio_asked_for(width, height):
    generator = np.random.default_rng(0)
    boxes = np.array([random_box(width, height, generator) for _ in range(2000)])
    left, top, right, bottom = boxes.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= width).all()
    assert (bottom <= height).all()
    wide, high = right - left, bottom - top
    share = wide * high / (width * height)
    rounding = 1.5 / np.minimum(wide, high)
    assert (share > 0.08 * (1 - rounding)).all()
    assert ((wide / high > 3 / 4 * (1 - rounding)) & (wide / high < 4 / 3 * (1 + rounding))).all()
    # Drawn evenly in area: where every box fits, the mean share is that of 0.08 to 1.
    if width == 50:
        assert 0.4 < share.mean() < 0.56
        assert len(set(left)) > 20


def test_where_no_box_fits_the_middle_is_taken():
    generator = np.random.default_rng(0)
    assert random_box(1000, 3, generator) == (498, 0, 502, 3)
    assert random_box(3, 1000, generator) == (0, 498, 3, 502)


def test_a_cropped_image_is_what_pil_cuts_and_resizes(write_images):
    splits = load_splits(
        Data(train=str(write_images("set", {"a": 3, "b": 2}, size=(40, 30)))), IMAGE
    )
    whole = lazily(splits, image_size=16, shortest_edge=20)
    cropped = whole.randomly_cropped(7)
    cropped.set_epoch(2)
    found = cropped.uint8_batch([4, 1]).numpy()
    for row, pixels in zip([4, 1], found, strict=True):
        box = random_box(40, 30, np.random.default_rng([7, 2, row]))
        image = (
            splits.train.rows[row]["image"].crop(box).resize((16, 16), Image.Resampling.BILINEAR)
        )
        assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))
    # The images themselves are cut out of the middle, as for evaluation.
    image = splits.train.rows[4]["image"].resize((26, 20), Image.Resampling.BILINEAR)
    expected = np.asarray(image.crop((5, 2, 21, 18))).transpose(2, 0, 1)
    assert np.array_equal(whole.uint8_batch([4])[0].numpy(), expected)


def test_crops_differ_by_epoch_and_not_by_the_number_of_workers(write_images):
    splits = load_splits(
        Data(train=str(write_images("set", {"a": 4, "b": 4}, size=(20, 20)))), IMAGE
    )
    found = {}
    for workers in (0, 2):
        data = lazily(splits).randomly_cropped(1)
        batches = cycle(make_loader(data, 4, shuffle=True, seed=3, num_workers=workers))
        found[workers] = [next(batches) for _ in range(4)]
    epochs = []
    for one, other in zip(found[0], found[2], strict=True):
        assert torch.equal(one["index"], other["index"])
        assert torch.equal(one["pixel_values"], other["pixel_values"])
        assert one["pixel_values"].dtype == torch.float32
    for pair in (found[0][:2], found[0][2:]):
        order = torch.cat([batch["index"] for batch in pair]).argsort()
        epochs.append(torch.cat([batch["pixel_values"] for batch in pair])[order])
    assert all(not torch.equal(a, b) for a, b in zip(*epochs, strict=True))


def test_statistics_of_many_lazy_images_are_those_of_some(write_images, monkeypatch):
    splits = load_splits(Data(train=str(write_images("set", {"a": 5, "b": 4}))), IMAGE)
    monkeypatch.setattr(images_module, "_ROWS_MEASURED", 3)
    found = lazily(splits)
    pixels = found.uint8_batch([0, 4, 8]).numpy() / 255
    assert np.allclose(found.statistics.mean, pixels.mean(axis=(0, 2, 3)))
    assert np.allclose(found.statistics.std, pixels.std(axis=(0, 2, 3)))


@pytest.mark.parametrize(
    ("cores", "processes", "expected"), [(1, 1, 1), (4, 1, 3), (16, 2, 7), (64, 4, 8), (8, 8, 1)]
)
def test_workers_share_the_cores(write_images, monkeypatch, cores, processes, expected):
    splits = load_splits(Data(train=str(write_images("set", {"a": 2, "b": 2}))), IMAGE)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert decoding_workers(lazily(splits), None) == expected
    assert decoding_workers(lazily(splits), 3) == 3
    held = encode(splits.train, splits.columns, IMAGE, config=Data())
    assert decoding_workers(held, 3) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_gathered_where_the_pixels_lie(write_images):
    splits = load_splits(Data(train=str(write_images("set", {"a": 4, "b": 4}))), IMAGE)
    found = encode(splits.train, splits.columns, IMAGE, config=Data())
    here = found.finish(found.__getitems__([5, 2]))["pixel_values"]
    found.keep_on(torch.device("cuda"))
    there = next(iter(make_loader(found, 8, shuffle=False, seed=0)))["pixel_values"]
    assert there.is_cuda
    assert torch.allclose(there[[5, 2]].cpu(), here)


# What cannot be decoded


@pytest.fixture
def damaged(write_images):
    """Rows 0 to 3 and 4 to 7; 1 is no image, 5 is cut short, 6 is empty."""
    root = write_images("set", {"a": 4, "b": 4}, size=(64, 64))
    (root / "a" / "1.png").write_text("<html>not found</html>")
    cut = root / "b" / "1.png"
    cut.write_bytes(cut.read_bytes()[:6000])
    (root / "b" / "2.png").write_bytes(b"")
    return root


def test_bad_images_are_left_out_and_counted_if_asked(damaged, tmp_path):
    shutil.copytree(damaged, tmp_path / "test")
    config = Data(train=str(damaged), test=str(tmp_path / "test"), bad_images="skip")
    splits = load_splits(config, IMAGE)
    for split in (splits.train, splits.test):
        assert split.index.tolist() == [0, 2, 3, 4, 7]
        assert split.labels.tolist() == [0, 0, 0, 1, 1]
    assert sum(note.startswith("left out 3 of 8 images") for note in splits.notes) == 2
    assert "row 1 (counted from 0)" in splits.notes[0]
    assert "a/1.png" in splits.notes[0]
    assert len(lazily(splits).uint8_batch(range(5))) == 5


def test_bad_images_in_parquet(tmp_path):
    def encoded(kind):
        buffer = io.BytesIO()
        Image.effect_noise((40, 40), 60).convert("RGB").save(buffer, format=kind)
        return buffer.getvalue()

    good, jpeg = encoded("PNG"), encoded("JPEG")
    values = [good, jpeg[: len(jpeg) // 2], None, jpeg, good[:-200]]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {
        "image": [None if v is None else {"bytes": v, "path": None} for v in values],
        "label": [0, 1, 0, 1, 0],
    }
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_dict(rows, features).to_parquet(str(path))
    splits = load_splits(Data(train=str(path), bad_images="skip"), IMAGE)
    assert splits.train.index.tolist() == [0, 3]
    with pytest.raises(SamaError, match=r"row 2 .*has no image"):
        load_splits(Data(train=str(path)), IMAGE)


def test_where_every_image_is_bad_the_first_is_named(damaged):
    for path in damaged.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(SamaError, match=r"row 0 .*it is no image file"):
        load_splits(Data(train=str(damaged), bad_images="skip"), IMAGE)


@pytest.mark.parametrize("workers", [0, 2])
def test_one_sentence_comes_out_of_a_worker(write_images, workers):
    root = write_images("set", {"a": 4, "b": 4}, size=(64, 64))
    splits = load_splits(Data(train=str(root)), IMAGE)
    found = lazily(splits)
    cut = root / "b" / "1.png"
    cut.write_bytes(cut.read_bytes()[:6000])
    with pytest.raises(SamaError) as error:
        list(make_loader(found, 2, shuffle=False, seed=0, num_workers=workers))
    assert str(error.value).startswith("row 5 (counted from 0) of ")
    assert "\n" not in str(error.value)


# Subsets that stay what they are


def test_a_subset_keeps_its_rows_when_others_leave():
    rows = np.arange(0, 300, 3)
    whole = rows[subset(100, 40, 5)]
    assert np.array_equal(subset_of(rows, rows, 40, 5), whole)
    gone = whole[[3, 20]]
    left = np.setdiff1d(rows, [*gone, *np.setdiff1d(rows, whole)[:5]])
    found = subset_of(rows, left, 40, 5)
    assert len(found) == 40
    assert np.isin(found, left).all()
    assert np.isin(np.setdiff1d(whole, gone), found).all()
    assert np.array_equal(subset_of(rows, left, 1000, 5), left)


def test_the_test_subset_is_the_same_whatever_becomes_of_training_rows(write):
    rows = [(f"text number {i}", "xy"[i % 2]) for i in range(120)]
    config = {"train": write("train.csv", rows[:60]), "test": write("test.csv", rows[60:])}

    def load(**more):
        return load_splits(Data(**config, max_test_rows=20, **more), "text-classification")

    plain = load()
    noisy = load(
        meta=config["train"],
        meta_per_class=3,
        noise={"kind": "symmetric", "rate": 0.3},
        meta_seed=4,
    )
    assert len(plain.test) == 20
    assert plain.test.index.tolist() == noisy.test.index.tolist() != list(range(20))
    assert "kept 20 of 60 test rows (max_test_rows)" in plain.notes
    assert plain.test.labels.tolist() == [i % 2 for i in plain.test.index]
    assert load(seed=1).test.index.tolist() != plain.test.index.tolist()
