"""UnifiedReward: a rating from 1 to 5 by a Qwen2.5-VL (Wang et al., arXiv 2503.05236).

The question is the one of the point-wise rating that the model was trained on.  An answer without a
rating is an error: to count it as 0 would be the worst rating.
"""

import hashlib
import os
import re
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path

NAME = "unified-reward"
SCALE = "rating, 1 to 5"
LIMITS = (1.0, 5.0)
QUESTION = (
    "You are given a text caption and a generated image based on that caption. Your task is to "
    "evaluate this image based on two key criteria:\n"
    "1. Alignment with the Caption: Assess how well this image aligns with the provided caption. "
    "Consider the accuracy of depicted objects, their relationships, and attributes as described "
    "in the caption.\n"
    "2. Overall Image Quality: Examine the visual quality of this image, including clarity, detail "
    "preservation, color accuracy, and overall aesthetic appeal.\n"
    "Based on the above criteria, assign a score from 1 to 5 after 'Final Score:'.\n"
    "Your task is provided as follows:\nText Caption: [{prompt}]"
)
RATING = re.compile(r"Final Score:\s*([1-5](?:\.\d+)?)(?!\d)")


@cache
def model():
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    folder = os.environ["UNIFIED_REWARD"]
    network = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, torch_dtype="auto")
    device = os.environ.get("SCORER_DEVICE", "cuda")
    return AutoProcessor.from_pretrained(folder), network.to(device).eval()


def version():
    total = hashlib.sha256()
    for path in sorted(Path(os.environ["UNIFIED_REWARD"]).glob("*.safetensors")):
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return f"transformers {installed('transformers')} {total.hexdigest()[:12]}"


def score(pictures, prompts):
    return [rating(answer(*pair)) for pair in zip(pictures, prompts, strict=True)]


def answer(picture, prompt):
    processor, network = model()
    content = [{"type": "image"}, {"type": "text", "text": QUESTION.format(prompt=prompt)}]
    asked = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    inputs = processor(text=[asked], images=[picture], return_tensors="pt").to(network.device)
    made = network.generate(**inputs, max_new_tokens=512, do_sample=False)
    new = made[:, inputs["input_ids"].shape[1] :]
    return processor.batch_decode(new, skip_special_tokens=True)[0]


def rating(text):
    found = RATING.search(text)
    if found is None:
        raise ValueError(f"the model gave no rating: {text[:200]!r}")
    return float(found.group(1))
