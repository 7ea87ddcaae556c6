"""What verbs write of samples: a sheet that says what it shows, an array, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unsteep.cli.terminal import for_files, say

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from unsteep.model import Model
    from unsteep.model.request import Request

ACROSS = 12  # given pictures in a row, at most


def names_of(
    of: Request, classes: Sequence[str], prompts: Sequence[str] | None = None, *, by_class: bool
) -> list[str] | None:
    """What each sample of a request was asked to be, for a sheet: the name of its class, where classes were asked for,
    and its prompt. None where nothing was asked."""
    from unsteep.pages.lettering import settable

    said: list[list[str]] = [[] for _ in range(of.n)]
    labels = of.guidance.labels if of.condition is None or "label" not in of.condition else of.condition["label"]
    if by_class and labels is not None:
        named = settable(classes)
        for words, label in zip(said, labels.tolist(), strict=True):
            words.append(named[label])
    for words, prompt in zip(said, prompts or (), strict=False):
        words.append(prompt)
    return [", ".join(words) for words in said] if any(said) else None


def write_samples(
    model: Model, out: Path, parts: Iterator[Any], of: Request, names: list[str] | None, given: torch.Tensor | None
) -> None:
    """The samples of a request, that come in parts: into a folder or an array as they come, into one picture when all
    are there, by their names. `given`: what they were made after."""
    import torch

    labels = None if of.condition is None or not model.names else of.condition.get("label")
    labels = None if labels is None else labels.cpu()
    if out.suffix == ".npz":
        from unsteep.pages import arrays

        numbers, first = None if labels is None else labels.numpy(), next(parts)
        if isinstance(first, torch.Tensor):
            arrays.write_parts(out, (part.numpy() for part in chain([first], parts)), of.n, numbers)
        else:  # sequences, padded to the longest
            arrays.write_samples(out, [one.numpy() for part in chain([first], parts) for one in part], numbers)
    elif out.suffix == ".pose":
        model.space.write([one for part in parts for one in part], out)  # type: ignore[attr-defined]
    elif out.suffix:
        from unsteep.pages import pictures

        drawn = list(parts)
        whole = torch.cat(drawn) if isinstance(drawn[0], torch.Tensor) else [one for part in drawn for one in part]
        tiles = model.space.tiles(whole)
        assert tiles is not None
        if given is not None and model.description.hearing("picture") is not None:
            sheet = _after(model, given, tiles, of.seeds.start)
        else:
            sheet = pictures.grid(tiles.numpy()) if names is None else pictures.named(tiles.numpy(), names)
        pictures.save(sheet, out)
    else:
        folders = None if labels is None else [model.names[i] for i in labels.tolist()]
        _write_folder(out, (picture for part in parts for picture in part), of.n, folders)


def _after(model: Model, given: torch.Tensor, tiles: torch.Tensor, seed: int) -> Image:
    """Samples (n, c, h, w) with what they were made after: one given picture before them, or several in rows, with
    those made after them below."""
    import torch

    from unsteep.pages import pictures

    heard = model.description.hearing("picture")
    beside = heard.aligned.fitted(given, heard.channels, heard.height, heard.width)
    shown = ((beside.float() / (255 if beside.dtype == torch.uint8 else 65535)) * 255).round().to(torch.uint8)
    shown = shown[:, : tiles.shape[1]].expand(-1, tiles.shape[1], -1, -1)
    if len(given) == 1:
        captions = ["given", *(f"seed {seed + i}" for i in range(len(tiles)))]
        return pictures.grid(torch.cat([shown, tiles]).numpy(), captions=captions)
    columns, rows, labels = min(len(given), ACROSS), [], []
    blank = torch.full_like(tiles[:1], pictures.PAPER)
    for first in range(0, len(given), columns):
        some = range(first, min(first + columns, len(given)))
        padding = blank.expand(columns - len(some), -1, -1, -1)
        rows += [shown[some.start : some.stop], padding]
        labels.append("given")
        for turn in range(0, len(tiles), len(given)):
            answers = tiles[turn + some.start : turn + some.stop]
            if len(answers):
                rows += [answers, blank.expand(columns - len(answers), -1, -1, -1)]
                labels.append("sample" if len(tiles) <= len(given) else f"sample {turn // len(given) + 1}")
    return pictures.grid(torch.cat(rows).numpy(), columns, row_labels=labels)


def _write_folder(out: Path, samples: Iterable[torch.Tensor], n: int, names: list[str] | None) -> None:
    """One PNG a sample, in a sub-folder for each class where there are classes: `train folder` reads it back."""
    from PIL import Image

    from unsteep.cli.common import many
    from unsteep.pages.ours import note_samples, samples_in

    folders = for_files(dict.fromkeys(names or ()))
    files = [("" if names is None else f"{folders[names[i]]}/") + f"{i:06d}.png" for i in range(n)]
    out.mkdir(parents=True, exist_ok=True)
    older = [name for name in {*(samples_in(out) or ())}.difference(files) if (out / name).is_file()]
    if older:
        say(f"{many(len(older), 'sample')} of earlier commands stay in {out} beside these, {min(older)} for one")
    note_samples(out, files)
    for file, sample in zip(files, samples, strict=True):
        picture = sample.permute(1, 2, 0).numpy()
        (out / file).parent.mkdir(exist_ok=True)
        Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(out / file)
