"""One colour and one marker per method, the same in every figure, table and gallery.

Built-in methods keep theirs from report to report.  The colours are told apart with the common
forms of colour blindness (Okabe and Ito's set, then Tol's), and the marker tells them apart in
grey.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FIXED = {
    "exact": "#222222",
    "prior": "#8a8a8a",
    "oracle": "#cc79a7",
    "best-of-n": "#e69f00",
    "best-of-n-fewstep": "#882255",
    "dps": "#d55e00",
    "rollout": "#009e73",
    "mfm-g": "#0072b2",
    "mfm-gf": "#56b4e9",
}
SPARE = ("#332288", "#999933", "#44aa99", "#aa4499", "#6b4c16", "#117733", "#cc6677", "#5b7c99")
MARKERS = "osD^vpX<>hd"


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    colour: str
    marker: str

    @property
    def ink(self) -> str:
        """The colour, darkened until it is readable as text on white."""
        channels = [int(self.colour[i : i + 2], 16) for i in (1, 3, 5)]
        return "#" + "".join(f"{int(channel * 0.72):02x}" for channel in channels)


def looks(methods: Mapping[str, str]) -> dict[str, Look]:
    """Label -> look.  A second label of one name takes a spare colour."""
    free = [c for name, c in FIXED.items() if name not in methods.values()]
    spare = [*SPARE, *free]
    chosen: dict[str, Look] = {}
    for index, (label, name) in enumerate(methods.items()):
        taken = {look.colour for look in chosen.values()}
        own = FIXED.get(name, "")
        colour = own if own and own not in taken else spare.pop(0) if spare else SPARE[index % 8]
        chosen[label] = Look(colour, MARKERS[index % len(MARKERS)])
    return chosen
