"""Descriptions as release 0.1 wrote them, brought to today's form: names, vocabulary and picture are now `hears`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from unsteep.model.description import Description


def upgraded(table: dict[str, Any]) -> dict[str, Any]:
    """The table of a model.toml of any release, as today's `Description` reads it."""
    if not table.keys() & {"names", "vocabulary", "picture", "augment"}:
        return table
    new = {name: value for name, value in table.items() if name not in ("names", "vocabulary", "picture", "augment")}
    hears: list[dict[str, Any]] = []
    if table.get("names"):
        hears.append({"type": "Label", "names": table["names"]})
    text = table.get("model", {}).get("network", {}).get("text", {})
    if table.get("vocabulary"):
        characters = not json.loads(table["vocabulary"]).get("merges")
        kind = {"by": "characters" if characters else "bpe", "vocabulary": table["vocabulary"]}
        hears.append({"type": "Prompt", **kind, "limit": text.get("limit", 64)})
    elif "folder" in text:  # of a frozen encoder
        kept = {name: text[name] for name in ("width", "digest", "limit")}
        hears.append({"type": "Prompt", "by": text["folder"], **kept})
    if table.get("picture"):
        space = table.get("space", {})
        size = {"channels": space.get("channels", 0), "height": space.get("size", 0), "width": space.get("size", 0)}
        hears.append({"type": "Picture", "what": table["picture"], "augment": table.get("augment", 0.0), **size})
    return {**new, "hears": hears}


def counted(description: Description, statistics: Mapping[str, Tensor]) -> Description:
    """With how often the data have each class, which release 0.1 kept among the statistics alone."""
    label = description.hearing("label")
    if getattr(label, "counts", None) != () or "label_counts" not in statistics:
        return description
    known = replace(label, counts=tuple(statistics["label_counts"].tolist()))
    return replace(description, hears=tuple(known if one is label else one for one in description.hears))
