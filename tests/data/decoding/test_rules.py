"""Without a run's own rules, images are decoded as in a run that begins."""

from PIL import Image

from dist_train.data.decoding.rules import DEFAULT_RULES


def test_the_usual_limit_of_pixels_is_pillows() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert DEFAULT_RULES.max_pixels == 2 * Image.MAX_IMAGE_PIXELS
    assert not DEFAULT_RULES.as_0_1_0
