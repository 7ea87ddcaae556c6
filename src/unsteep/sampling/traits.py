"""What a solver says of itself beside its `step`: what it costs, which grid suits it, how it behaves.

    calls     network calls of a step, at most
    spacing   the grid that it wants where none is asked for; one with `levels(schedule, steps)` lays its own instead
    draws     whether it draws noise on its way
    flows     whether it follows the probability flow: from one start to one end, the same for all that do
    order     p, where its error falls with the p-th power of the step: at the end of the flow or, where it draws
              noise, in the spread of its samples; None where nothing is claimed

Each is an attribute of the class or a property of its settings, never a setting itself, and what is left out is as in
`Traits`. Solvers that come in several orders have a setting `order`; where that of convergence is another one, as with
a corrector, which raises it by one (Zhao et al. 2023), they say so as `converges`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from unsteep.sampling.grids import Spacing


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Those of a solver that says nothing of itself are the defaults."""

    calls: int = 1
    spacing: Spacing = "trailing"
    draws: bool = False
    flows: bool = False
    order: float | None = None


def traits(solver: object) -> Traits:
    """Of any solver, whatever of it it leaves out."""
    told = {field.name: getattr(solver, field.name) for field in fields(Traits) if hasattr(solver, field.name)}
    if hasattr(solver, "converges"):
        told["order"] = solver.converges
    return Traits(**told)
