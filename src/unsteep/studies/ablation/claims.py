"""What the paper's ablation found, and whether another one finds it too: computed, never written by hand.

Ho et al. 2020, Table 2, FID on CIFAR-10 (Table 1 has the bits/dim):

    mean  bound, learned diagonal 23.69   bound, fixed 13.22                     unweighted error: unstable
    eps   bound, learned diagonal: unstable   bound, fixed 13.51 (3.70 bits/dim)   L_simple 3.17 (3.75 bits/dim)

Quality stands for FID there and for the energy distance here. A cell that diverged is worse than any that did not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from unsteep.metrics.interval import Interval
from unsteep.studies.study import Outcome

STABLE = ("mean-bound-diagonal", "mean-bound-fixed", "eps-bound-fixed", "eps-simple-fixed")
UNSTABLE = ("mean-simple-fixed", "eps-bound-diagonal")
Answer = Literal["yes", "no", "too close to tell", "not known"]


@dataclass(frozen=True)
class Claim:
    """A finding of the paper, its numbers there and here, and whether it holds here too."""

    says: str
    there: str
    here: str
    holds: Answer


def claims(results: Mapping[str, Outcome]) -> list[Claim]:
    """The paper's five findings on these results, by the names of cells."""

    def below(better: str, worse: Sequence[str], quantity: str = "energy") -> tuple[str, Answer]:
        return _worded(results, [better, *worse], quantity), _all_below(results, [better], worse, quantity)

    def worst(cell: str) -> tuple[str, Answer]:
        diverged = cell in results and bool(results[cell].diverged)
        return _worded(results, [cell]), "yes" if diverged else _all_below(results, STABLE, [cell])

    best = "eps-simple-fixed"
    return [
        Claim(
            "predicting eps, L_simple: the best samples",
            "3.17, then 13.22",
            *below(best, [name for name in (*STABLE, *UNSTABLE) if name != best]),
        ),
        Claim(
            "predicting eps: L has fewer bits/dim than L_simple",
            "3.70, 3.75 bits/dim",
            *below("eps-bound-fixed", ["eps-simple-fixed"], "bits-per-dim"),
        ),
        Claim(
            "predicting the mean, L: better samples with the fixed variance than with the diagonal one",
            "13.22, 23.69",
            *below("mean-bound-fixed", ["mean-bound-diagonal"]),
        ),
        Claim("predicting the mean, L_simple: unstable, or the worst", "unstable", *worst("mean-simple-fixed")),
        Claim("predicting eps, L, diagonal variance: unstable, or the worst", "unstable", *worst("eps-bound-diagonal")),
    ]


def verdict(found: Sequence[Claim]) -> str:
    """Whether the ranking agrees with the paper's, in one sentence."""
    counts = {answer: sum(claim.holds == answer for claim in found) for answer in ("yes", "no", "too close to tell")}
    if not any(counts.values()):
        return "Too few cells have been run to say whether the ranking agrees with the paper's."
    known, held = sum(counts.values()), counts["yes"]
    opening = (
        "The ranking agrees with the paper's"
        if held == len(found)
        else "The ranking contradicts the paper's nowhere"
        if not counts["no"]
        else "The ranking agrees with the paper's in part"
        if held
        else "The ranking does not agree with the paper's"
    )
    parts = [
        f"{held} of its {len(found)} findings hold here" if held != 1 else f"1 of its {len(found)} findings holds here"
    ]
    parts += [f"not so: {counts['no']}"] if counts["no"] else []
    parts += [f"too close to tell: {counts['too close to tell']}"] if counts["too close to tell"] else []
    parts += [f"not known, for want of cells: {len(found) - known}"] if known < len(found) else []
    return f"{opening}: {'; '.join(parts)}."


def ranking(results: Mapping[str, Outcome], quantity: str) -> list[str]:
    """The names of the cells that have a value, the best first."""
    there = {name: result.values[quantity] for name, result in results.items() if quantity in result.values}
    return sorted(there, key=lambda name: there[name].value)


def _value(results: Mapping[str, Outcome], name: str, quantity: str) -> Interval | None:
    """The value of a cell, infinite if it diverged; None if it was not run."""
    if name not in results:
        return None
    return results[name].values.get(quantity) or Interval(math.inf, math.inf, math.inf)


def _all_below(
    results: Mapping[str, Outcome], lower: Sequence[str], upper: Sequence[str], quantity: str = "energy"
) -> Answer:
    """Whether every cell of `lower` has less than every one of `upper`."""
    pairs = [(_value(results, a, quantity), _value(results, b, quantity)) for a in lower for b in upper]
    answers = [None if a is None or b is None else (a.below(b), True) for a, b in pairs]
    if (False, True) in answers:
        return "no"
    if None in answers or not answers:
        return "not known"
    return "too close to tell" if (None, True) in answers else "yes"


def _worded(results: Mapping[str, Outcome], names: Sequence[str], quantity: str = "energy") -> str:
    words, scale = [], 1000 if quantity == "energy" else 1
    for name in sorted(names, key=lambda name: value.value if (value := _value(results, name, quantity)) else math.inf):
        value = _value(results, name, quantity)
        number = "not run" if value is None else "diverged" if value.value == math.inf else f"{scale * value.value:.3g}"
        words.append(f"{name} {number}")
    return ", ".join(words)
