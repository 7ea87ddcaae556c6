"""A row of `unsteep check`: what was expected, what came out, and whether that passes. NaN never does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Verdict = Literal["ok", "warn", "FAILED"]


@dataclass(frozen=True)
class Row:
    """One check, in words and numbers fit for a table; `expected` states the tolerance, too."""

    name: str
    expected: str
    got: str
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """A warning passes: it says what a person should know."""
        return self.verdict != "FAILED"


Check = tuple[str, Callable[[], Iterable[Row]]]  # a name for when it breaks, and what gives its rows


def holds(name: str, expected: str, got: str, passed: bool, otherwise: Verdict = "FAILED") -> Row:
    """A row that says `got`; `otherwise` is its verdict if it does not pass."""
    return Row(name, expected, got, "ok" if passed else otherwise)


def near(name: str, expected: float, tolerance: float, got: float) -> Row:
    """`got` within `tolerance` of a number."""
    digits = max(0, 1 - math.floor(math.log10(tolerance)))
    return holds(name, f"{expected} ± {_short(tolerance)}", f"{got:.{digits}f}", abs(got - expected) <= tolerance)


def below(name: str, limit: float, got: float, otherwise: Verdict = "FAILED") -> Row:
    """`got`, an error or a magnitude, less than `limit`."""
    return holds(name, f"< {_short(limit)}", _short(got), abs(got) < limit, otherwise)


def published(name: str, expected: str, got: float) -> Row:
    """`got` equal to a published number in every digit that was printed, give or take one of the last."""
    number = Decimal(expected)
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    passed = abs(got - float(number)) <= 1.01 * 10.0**exponent
    shown = _exponent(f"{got:.{len(digits) - 1}e}") if "e" in expected else f"{got:.{-exponent}f}"
    return holds(name, expected, shown, passed)


def rows_of(check: Check) -> Iterator[Row]:
    """The rows of a check; one that breaks ends with a failing row that says how."""
    name, rows = check
    try:
        yield from rows()
    except Exception as error:  # whatever it is, it is the finding
        words = " ".join(f"{type(error).__name__}: {error}".split())
        yield Row(name, "no error", words, "FAILED")


def _short(number: float) -> str:
    return _exponent(f"{number:.2g}")


def _exponent(number: str) -> str:
    """Exponents as people write them: 1e-5, not 1e-05."""
    return number.replace("e-0", "e-").replace("e+0", "e+")
