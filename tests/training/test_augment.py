"""Augmented batches, image by image against what brute force says they may be."""

from __future__ import annotations

import torch

from samacli.training.augment import CUTOUT_AREA, make_augment


def images(n: int = 200, height: int = 16, width: int = 18) -> torch.Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def augmented(name: str, before: torch.Tensor) -> torch.Tensor:
    augment = make_augment([name])
    assert augment is not None
    return augment({"pixel_values": before})["pixel_values"]


def test_a_crop_is_a_window_of_the_padded_image_and_all_occur() -> None:
    torch.manual_seed(1)
    before, reach = images(), 2
    after = augmented("crop", before)
    seen = set()
    for old, new in zip(before, after, strict=True):
        padded = torch.nn.functional.pad(old, (reach,) * 4)
        places = [
            (y, x)
            for y in range(2 * reach + 1)
            for x in range(2 * reach + 1)
            if torch.equal(padded[:, y : y + 16, x : x + 18], new)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == (2 * reach + 1) ** 2


def test_about_half_are_mirrored_whole() -> None:
    torch.manual_seed(1)
    before = images()
    after = augmented("flip", before)
    mirrored = [torch.equal(new, old.flip(-1)) for old, new in zip(before, after, strict=True)]
    same = [torch.equal(new, old) for old, new in zip(before, after, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


def test_a_quarter_of_each_image_is_blanked_in_one_piece() -> None:
    torch.manual_seed(1)
    before = images(400)
    after = augmented("cutout", before)
    blank = (after == 0).all(1)
    assert torch.equal(after, before * ~blank[:, None])
    for mask in blank:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == len(rows) * len(columns), "a rectangle, nothing else"
        assert abs(len(rows) - len(columns)) <= 1
        assert abs(mask.float().mean() - CUTOUT_AREA) < 0.05
    assert blank.any(0).all(), "every pixel is blanked in some image"


def test_the_seed_decides_and_other_columns_stay() -> None:
    augment = make_augment(["flip", "crop", "cutout"])
    assert augment is not None
    batch = {"pixel_values": images(), "labels": torch.arange(200)}
    torch.manual_seed(3)
    one = augment(batch)
    two = augment(batch)
    torch.manual_seed(3)
    again = augment(batch)
    assert torch.equal(one["pixel_values"], again["pixel_values"])
    assert not torch.equal(one["pixel_values"], two["pixel_values"])
    assert torch.equal(one["labels"], batch["labels"])
    assert make_augment(["resized-crop"]) is None, "done while decoding"
