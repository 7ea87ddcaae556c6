"""What a number of a metric depends on besides the model: two numbers of different protocols are not compared."""

from __future__ import annotations

from collections.abc import Mapping

Fact = str | int | float | bool | None
Protocol = Mapping[str, Fact]
"""A fact by its name, as JSON holds it."""

SUBJECT = ("subject", "model", "weights", "samples from", "samples digest", "reference")
"""What is measured, and may differ between two results that are compared; and where the reference lies, which its
digest knows better."""


def differences(a: Protocol, b: Protocol) -> list[str]:
    """The facts in which two protocols differ, in words; none where their numbers may be compared."""
    names = [name for name in dict.fromkeys((*a, *b)) if name not in SUBJECT]
    return [f"{name}: {_said(a, name)} and {_said(b, name)}" for name in names if a.get(name) != b.get(name)]


def _said(protocol: Protocol, name: str) -> str:
    value = protocol.get(name)
    return "not stated" if value is None else str(value)
