"""Sentences about pictures of shapes, and what a sentence asks for."""

from __future__ import annotations

import re

import torch

from bench.core.params import UserError, nearest
from bench.models.shapes_render import BACKGROUNDS, COLOURS, PLACES, SHAPES, SINGLES, SIZES, Scenes

COUNTS = ("one", "two")
WORDS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "place": PLACES,
    "background": BACKGROUNDS,
    "count": COUNTS,
}
"""The attributes of a picture and their values, in the order of the renderer's indices."""

PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}

Wish = dict[str, int]
"""Attribute -> index of the value asked for; attributes that are not mentioned are absent."""


def sentence(wish: Wish) -> str:
    """A wish in words; `shape` and `count` must be there.

    {"shape": 0, "count": 0, "colour": 0, "background": 0} is "a red circle on a white background".
    """
    shape, two = SHAPES[wish["shape"]], wish["count"] == 1
    words = ["two" if two else "a"]
    words += [WORDS[name][wish[name]] for name in ("size", "colour") if name in wish]
    words += [PLURALS[shape] if two else shape]
    words += [PLACES[wish["place"]]] if "place" in wish else []
    if "background" in wish:
        words += ["on a", BACKGROUNDS[wish["background"]], "background"]
    return " ".join(words)


def wishes(scenes: Scenes) -> list[Wish]:
    """The whole truth about every scene."""
    columns = {name: getattr(scenes, name).tolist() for name in WORDS if name != "count"}
    columns["count"] = (scenes.count - 1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def parse(prompt: str) -> Wish:
    """What a prompt asks for; it must name a shape, and every word must be known (UserError)."""
    rest, wish = f" {prompt.lower().strip(' .')} ", {}
    for index, place in enumerate(PLACES):
        if f" {place} " in rest:
            wish["place"], rest = index, rest.replace(place, "")
    ground = re.search(r" on an? (\w+) background ", rest)
    if ground:
        wish["background"] = _index("background", ground.group(1))
        rest = rest.replace(ground.group(0), " ")
    for word in rest.split():
        wish |= _meaning(word)
    if "shape" not in wish:
        raise UserError(f"the prompt '{prompt}' names no shape: use one of {', '.join(SHAPES)}")
    if wish.get("place") == SINGLES and wish.get("count") == 0:
        raise UserError(f"the prompt '{prompt}' puts one shape '{PLACES[SINGLES]}': say two")
    return wish


def _index(attribute: str, word: str) -> int:
    known = WORDS[attribute]
    if word not in known:
        raise UserError(f"unknown {attribute} '{word}': {nearest(word, known)}")
    return known.index(word)


def _meaning(word: str) -> Wish:
    """What one word says about shape, colour, size or number."""
    singular = {plural: shape for shape, plural in PLURALS.items()}.get(word, word)
    if word in ("a", "an"):
        return {"count": 0}
    for attribute in ("count", "size", "colour", "shape"):
        if singular in WORDS[attribute]:
            return {attribute: WORDS[attribute].index(singular)}
    known = [value for values in WORDS.values() for value in values]
    raise UserError(f"unknown word '{word}' in a prompt about shapes: {nearest(word, known)}")


def told(wish: Wish, keep: float, generator: torch.Generator) -> Wish:
    """A wish that leaves out each of colour, size, place and ground with probability 1 - keep."""
    optional = ("colour", "size", "place", "background")
    kept = dict(zip(optional, torch.rand(4, generator=generator).tolist(), strict=True))
    return {name: value for name, value in wish.items() if kept.get(name, 0.0) < keep}
