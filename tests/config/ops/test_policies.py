"""Policy strings: what timm understands is allowed, what it would ignore or stop at is an error."""

import pytest
from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform

from dist_train.config.ops.policies import checked, is_policy

VALID = (
    "rand",
    "rand-m9-mstd0.5-inc1",
    "rand-m15-n3-p0.8-mmax20-inc1",
    "rand-m7-mstd101-tweights-n15",
    "rand-m6-n3-inc1-t3aw",
    "rand-t3a-p1",
    "augmix-m3-w3",
    "augmix-m5-w4-d2-b1-a0.5-mstd1",
    "original-mstd0.5",
    "originalr",
    "v0",
    "v0r-mstd1",
    "3a",
)


@pytest.mark.parametrize("policy", VALID)
def test_what_timm_understands_is_valid(policy: str) -> None:
    assert is_policy(policy)
    assert checked(policy) == policy
    make = {"rand": rand_augment_transform, "augmix": augment_and_mix_transform}
    make.get(policy.split("-")[0], auto_augment_transform)(policy, None)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("rnd-m9", "must begin with one of rand, augmix, original"),
        ("rand-m9-foo", "'foo' is not a part of a rand policy; the parts are m..., n..., p..., mstd"),
        ("rand-x3", "'x3' is not a part"),
        ("rand-m9.5", "'m9.5' is not a part"),
        ("rand-m9-m8", "gives `m` twice"),
        ("rand-n0", "'n0' is not a part"),
        ("rand-p1.5", "'p1.5' is not a part"),
        ("rand-inc2", "'inc2' is not a part"),
        ("rand-tweight", "'tweight' is not a part"),
        ("rand-tweights-n16", "n must be at most 15"),
        ("rand-", "'' is not a part"),
        ("rand-mstdinf", "'mstdinf' is not a part"),
        ("original-m3", "'m3' is not a part of a original policy"),
        ("augmix-a0", "'a0' is not a part"),
        ("augmix-w0", "'w0' is not a part"),
        ("RAND-m9", "must begin with"),
    ],
)
def test_what_it_would_ignore_or_stop_at_is_an_error(policy: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("...", r"\.\.\.")):
        checked(policy)
