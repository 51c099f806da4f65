"""What an evaluation is worth: a paper-nfe is the same work in every row, or it is not."""

from __future__ import annotations

from reports.data.summary import Entry
from reports.text.numbers import scientific, short

DISAGREE = 3.0
"""Rows of a table whose paper-nfe differ by more than this in FLOPs are named."""


def flops_per_nfe(entry: Entry) -> float:
    """FLOPs of a paper-nfe, sampling alone; nan where either is unknown."""
    nfe = entry.mean("paper_nfe")
    return entry.mean("flops") / nfe if nfe > 0 else float("nan")


def price_note(entries: list[Entry]) -> str:
    """Where a paper-nfe of one contestant takes far more FLOPs than another's: which, and how many.

    A map that is solved, not learned, counts one evaluation a jump and computes many.
    """
    prices = {e.method: p for e in entries if e.is_contestant and (p := flops_per_nfe(e)) > 0}
    if not prices:
        return ""
    dear, cheap = max(prices, key=prices.__getitem__), min(prices, key=prices.__getitem__)
    ratio = prices[dear] / prices[cheap]
    if ratio <= DISAGREE:
        return ""
    return (
        f"a paper-nfe is not the same work in every row: one of `{dear}` takes "
        f"{scientific(prices[dear])} FLOPs, {short(ratio)} times one of `{cheap}`; see the FLOPs "
        "of every row beside its paper-nfe"
    )
