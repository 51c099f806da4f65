"""One colour and one marker per method, the same in every figure, table and gallery.

A method that declares a colour keeps it from report to report.  The others are told apart with the
common forms of colour blindness (Tol's set, then what is free of Okabe and Ito's), and the marker
tells all of them apart in grey.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SPARE = ("#332288", "#999933", "#44aa99", "#aa4499", "#6b4c16", "#117733", "#cc6677", "#5b7c99")
LAST = (
    *("#222222", "#8a8a8a", "#cc79a7", "#e69f00", "#882255"),
    *("#d55e00", "#009e73", "#0072b2", "#56b4e9"),
)
MARKERS = "osD^vpX<>hd"
HEX = re.compile("#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class MethodLook:
    """How a method is drawn."""

    colour: str
    marker: str

    @property
    def ink(self) -> str:
        """The colour, darkened until it is readable as text on white."""
        channels = [int(self.colour[i : i + 2], 16) for i in (1, 3, 5)]
        return "#" + "".join(f"{int(channel * 0.72):02x}" for channel in channels)


MethodLooks = Mapping[str, MethodLook]
"""By the method's label."""


def looks(wishes: Mapping[str, str]) -> dict[str, MethodLook]:
    """Label -> look, from label -> the colour that is declared, if any.

    Whoever comes second with a colour takes a spare one.
    """
    declared = {label: wish.lower() for label, wish in wishes.items() if HEX.fullmatch(wish)}
    spare = [colour for colour in (*SPARE, *LAST) if colour not in declared.values()]
    chosen: dict[str, MethodLook] = {}
    marker = _markers(wishes)
    for index, label in enumerate(wishes):
        taken = {look.colour for look in chosen.values()}
        own = declared.get(label, "")
        colour = own if own and own not in taken else spare.pop(0) if spare else SPARE[index % 8]
        chosen[label] = MethodLook(colour, marker[label])
    return chosen


def _markers(labels: Iterable[str]) -> dict[str, str]:
    """Label -> marker, from the label itself, so that it stays the same from report to report.

    Two that would share one are moved apart while there are free ones.
    """
    chosen: dict[str, str] = {}
    for label in sorted(labels):
        first = zlib.crc32(label.encode()) % len(MARKERS)
        turned = MARKERS[first:] + MARKERS[:first]
        free = [m for m in turned if m not in chosen.values()]
        chosen[label] = (free or turned)[0]
    return chosen
