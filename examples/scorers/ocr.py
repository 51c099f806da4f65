"""Whether the text that a prompt asks for can be read in the picture.

The prompt holds it in quotation marks.  The score is 1 - d / n, at least 0, with the edit distance
d between what was asked for and what was read, both without case and blanks, and n letters asked
for; text that stands somewhere within what was read is found (Flow-GRPO, arXiv 2505.05470).
"""

import os
import re
from functools import cache
from importlib.metadata import version as installed

NAME = "ocr"
SCALE = "share of letters, 0 to 1"
LIMITS = (0.0, 1.0)
QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")


@cache
def reader():
    import easyocr

    gpu = os.environ.get("SCORER_DEVICE", "cuda") != "cpu"
    return easyocr.Reader(["en"], gpu=gpu)


def version():
    return f"easyocr {installed('easyocr')}"


def score(pictures, prompts):
    import numpy as np

    wanted = [asked_for(prompt) for prompt in prompts]
    read = ["".join(reader().readtext(np.asarray(p), detail=0)) for p in pictures]
    return [agreement(*pair) for pair in zip(wanted, read, strict=True)]


def asked_for(prompt):
    found = QUOTED.findall(prompt)
    if not found:
        raise ValueError(f"the prompt has no text in quotation marks: {prompt!r}")
    return " ".join(found)


def agreement(wanted, read):
    wanted, read = ("".join(text.lower().split()) for text in (wanted, read))
    distance = 0 if wanted in read else edit_distance(wanted, read)
    return max(0.0, 1 - distance / len(wanted))


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]
