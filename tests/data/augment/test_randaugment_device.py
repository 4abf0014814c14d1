"""RandAugment on the device equals torchvision v2 with the same draws, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import InterpolationMode, v2

from dist_train.data.augment.draws import CODES, Drawer, Draws
from dist_train.data.augment.frame import with_margin
from dist_train.data.augment.on_cpu import training_transform
from dist_train.data.augment.packed_draws import packed
from dist_train.data.augment.randaugment_device import DeviceOperations, KeptConstants, resized_in_floats
from dist_train.data.decoding.picture import Decoded
from tests.data.augment.test_on_cpu import PHOTO, augment

CPU = torch.device("cpu")


def photographs(count: int, height: int = 24, width: int = 24) -> Tensor:
    rng = np.random.default_rng(1)
    noise = rng.integers(-20, 20, (count, height, width, 3))
    return torch.from_numpy((PHOTO[:height, :width] + noise).clip(0, 255).astype(np.uint8))


def by_torchvision(cfg: Any, image_HWC: Tensor, key: int, size: int) -> Tensor:
    """The transforms of torchvision, which draw from a generator seeded with the sample's key."""
    mode = InterpolationMode(cfg.interpolation)
    crop = v2.RandomResizedCrop(size, cfg.crop_scale, cfg.crop_ratio, mode)
    ((chosen, _),) = cfg.randaugments()
    rand_augment = v2.RandAugment(
        chosen.num_ops, chosen.magnitude, interpolation=InterpolationMode(chosen.interpolation), fill=list(chosen.fill)
    )
    torch.manual_seed(key)
    image = image_HWC.permute(2, 0, 1)
    image = crop(image) if cfg.crop == "random_resized" else v2.Resize(size, mode)(image)
    image = v2.functional.center_crop(image, [size, size])
    if torch.rand(()) < cfg.hflip:
        image = image.flip(-1)
    return rand_augment(image).permute(1, 2, 0)  # type: ignore[no-any-return]


def augmented(cfg: Any, images: Tensor, size: int, device: torch.device = CPU) -> Tensor:
    draw = Drawer(cfg)
    draws, rows = packed(draw(key, *images.shape[1:3]) for key in range(len(images)))
    return DeviceOperations(cfg, (size, size))(images.to(device), draws, rows.to(device))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"crop": "random_resized", "interpolation": "bilinear"},
        {"randaugment": {"num_ops": 3, "magnitude": 27, "fill": [3, 200, 90]}, "hflip": 0.0},
    ],
)
def test_every_sample_is_what_torchvision_makes_of_it(keys: dict[str, Any], interpolation: str) -> None:
    randaugment = {"interpolation": interpolation, **keys.get("randaugment", {})}
    cfg = augment(**{**keys, "randaugment": randaugment})
    images = photographs(96)
    found = augmented(cfg, images, 40)
    assert (found.dtype, found.shape) == (torch.uint8, (96, 40, 40, 3))
    different = 0
    for key, image in enumerate(images):
        expected = by_torchvision(cfg, image, key, 40)
        assert torch.equal(found[key], expected), key
        different += not torch.equal(expected, v2.functional.resize(image.permute(2, 0, 1), [40]).permute(1, 2, 0))
    assert different > 80


def test_images_that_are_no_squares_and_images_of_the_models_size() -> None:
    cfg = augment(randaugment={})
    for images, size in ((photographs(12, 24, 33), 40), (photographs(12), 24)):
        found = augmented(cfg, images.clone(), size)
        for key, image in enumerate(images):
            assert torch.equal(found[key], by_torchvision(cfg, image, key, size))


def test_without_operations_only_crop_and_flip_remain() -> None:
    images = photographs(8)
    found = augmented(augment(hflip=1.0), images.clone(), 24)
    assert torch.equal(found, images.flip(2))


@pytest.mark.parametrize("mode", [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC])
def test_a_batch_in_floats_is_what_torchvision_makes_of_each_image_on_a_gpu(
    mode: InterpolationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where torch cannot resize uint8, torchvision resizes floats; on this CPU, if it is made to believe so."""
    monkeypatch.setattr(v2.functional._geometry, "_do_native_uint8_resize_on_cpu", lambda _: False)
    images = photographs(24).permute(0, 3, 1, 2)
    boxes = [
        [0, 0, 24, 24],
        [3, 1, 20, 20],
        [0, 5, 7, 13],
        [10, 10, 1, 1],
        [1, 2, 21, 9],
        [4, 0, 20, 24],
        [0, 0, 24, 3],
        [2, 2, 5, 5],
    ]
    boxes = boxes * 3
    for size in ((20, 20), (40, 33)):
        found = resized_in_floats(images, boxes, size, mode)
        expected = [
            v2.functional.resized_crop(image, *box, list(size), mode) for image, box in zip(images, boxes, strict=True)
        ]
        assert torch.equal(found, torch.stack(expected))


class Operations(TorchDispatchMode):
    """Counts what torch does but for views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def test_a_random_crop_is_one_operation_for_each_sample() -> None:
    """Counted on a device that, as a GPU, cannot resize uint8."""
    cfg = augment(crop="random_resized", interpolation="bicubic", hflip=0.0)
    draws, rows = packed(Draws((number % 9, 0, 9, 9), False, ()) for number in range(64))
    images = torch.empty((64, 24, 24, 3), dtype=torch.uint8, device="meta")
    with Operations() as counted:
        DeviceOperations(cfg, (40, 40))(images, draws, rows.to("meta"))
    assert counted.count <= 64 + 24


def test_nothing_is_asked_of_the_device() -> None:
    """Tensors on the meta device hold no numbers: reading one back, or choosing by one, is an error there."""
    cfg = augment(crop="random_resized", interpolation="bilinear", randaugment={"interpolation": "bilinear"})
    draws, rows = packed(Draws((0, 0, 9, 9), number % 2 == 0, (code, code)) for number, code in enumerate(CODES))
    images = torch.empty((len(CODES), 24, 24, 3), dtype=torch.uint8, device="meta")
    assert DeviceOperations(cfg, (40, 40))(images, draws, rows.to("meta")).shape == (len(CODES), 40, 40, 3)


def test_numbers_go_to_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def counted(self: KeptConstants, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.tensor:
            made.append(args)
        return original(self, func, types, args, kwargs)

    original = KeptConstants.__torch_function__
    monkeypatch.setattr(KeptConstants, "__torch_function__", counted)
    cfg = augment(randaugment={})
    operations = DeviceOperations(cfg, (40, 40))
    draws, rows = packed(Draws(None, False, (code, code)) for code in CODES)
    first = operations(photographs(len(CODES)), draws, rows)
    assert len(made) > 20
    kept = dict(operations._constants._kept)
    again = operations(photographs(len(CODES)), draws, rows)
    assert operations._constants._kept.keys() == kept.keys(), "no new ones"
    assert torch.equal(first, again)


def test_deterministic_mode_is_on_again_afterwards() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        augmented(augment(randaugment={}), photographs(40), 24)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_without_waiting_for_it() -> None:
    cfg = augment(randaugment={"interpolation": "bilinear"})
    images = photographs(96)
    device = torch.device("cuda", 0)
    draw = Drawer(cfg)
    draws, rows = packed(draw(key, 24, 24) for key in range(96))
    operations = DeviceOperations(cfg, (40, 40))
    on_gpu = images.to(device), rows.to(device)
    operations(on_gpu[0], draws, on_gpu[1])
    torch.cuda.set_sync_debug_mode("error")
    torch.use_deterministic_algorithms(True)
    try:
        found = operations(on_gpu[0], draws, on_gpu[1])
    finally:
        torch.use_deterministic_algorithms(False)
        torch.cuda.set_sync_debug_mode("default")
    away = (found.cpu().int() - augmented(cfg, images, 40).int()).abs()
    assert (away > 2).float().mean() < 0.02, "resizing there is in float32: a few pixels differ, and some by more"


@pytest.mark.parametrize("crop", ["squash", "pad"])
@pytest.mark.parametrize("shape", [(24, 33), (60, 11)])
def test_the_whole_image_is_shown_as_on_the_cpu(crop: str, shape: tuple[int, int]) -> None:
    cfg = augment(crop=crop, hflip=0.5)
    images = photographs(6, *shape)
    draw = Drawer(cfg)
    draws, rows = packed(draw(key, *shape) for key in range(len(images)))
    found = DeviceOperations(cfg, (40, 40), (9, 8, 7))(images, draws, rows)
    transform = training_transform(cfg, (40, 40), (9, 8, 7))
    for key, image in enumerate(images):
        expected = np.empty((40, 40, 3), dtype=np.uint8)
        transform(Decoded(np.ascontiguousarray(image.numpy())), key, expected)
        assert np.array_equal(found[key].numpy(), expected)


def test_padding_asks_nothing_of_the_device() -> None:
    draws, rows = packed([Draws(None, False, ())])
    images = torch.empty((1, 24, 33, 3), dtype=torch.uint8, device="meta")
    found = DeviceOperations(augment(crop="pad"), (40, 40), (9, 8, 7))(images, draws, rows.to("meta"))
    assert found.shape == (1, 40, 40, 3)


@pytest.mark.parametrize("size", [(40, 40), (40, 24)])
def test_a_random_crop_is_that_of_the_cpu(size: tuple[int, int]) -> None:
    cfg = augment(crop="random", hflip=0.5)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8))
    draw = Drawer(cfg, size, with_margin)
    draws, rows = packed(draw(key, 48, 64) for key in range(6))
    found = DeviceOperations(cfg, size)(images, draws, rows)
    transform = training_transform(cfg, size)
    for key in range(6):
        target = np.zeros((*size, 3), dtype=np.uint8)
        transform(Decoded(images[key].numpy()), key, target)
        assert np.array_equal(found[key].numpy(), target)
