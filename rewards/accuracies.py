"""How often people choose as our learned rewards do, as published; every figure with its source.

Share of pairs of pictures of one prompt in which the score prefers the picture that people prefer.
Only figures that were looked up stand here: what was not found is left out, and said to be.
"""

from __future__ import annotations

from bench.api import Accuracy

IMAGE_REWARD, HPD_V2, PICK_A_PIC = "ImageReward", "HPD v2", "Pick-a-Pic"
"""The test sets of arXiv 2304.05977, 2306.09341 and 2305.01569."""

HPS_TABLE = "README of github.com/tgxs002/HPSv2"
PICK_CARD = "card of huggingface.co/datasets/yuvalkirstain/pickapic_v1"


def _known(image_reward: float = 0.0, hpd: float = 0.0, pick: float = 0.0) -> tuple[Accuracy, ...]:
    """Percentages on the three sets; 0 where none was found."""
    found = (
        (HPD_V2, hpd, HPS_TABLE),
        (IMAGE_REWARD, image_reward, HPS_TABLE),
        (PICK_A_PIC, pick, PICK_CARD),
    )
    return tuple(Accuracy(*one) for one in found if one[1])


HPS_V20 = _known(65.7, 83.3)
PICKSCORE = _known(62.9, 79.8, 70.2)
IMAGEREWARD = _known(65.1, 74.0, 61.1)
AESTHETIC = _known(57.4, 76.8, 56.8)
CLIP_H = _known(pick=60.8)
