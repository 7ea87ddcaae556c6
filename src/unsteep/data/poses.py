"""Clips of points that move, in .pose or .npz files, with texts beside them or without: as people's hands sign.

A folder is read with all below it. A table may say what each clip says: a CSV or TSV with a header, or JSON lines, with
the columns "file", of the folder on; "text", "gloss" or "caption"; and "language", where there are several. Other usual
names are known. Of several texts for one file the first is taken.

Each clip is brought to the points of one skeleton and to one number of frames a second, its ends where nothing is seen
are cut off, and it is moved and scaled by its shoulders (see `poses.clip`). What a clip lacks stays missing: its
numbers have the weight 0, and others the confidence of their point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.protocols import Split
from unsteep.data.choosing import choose, shorten
from unsteep.data.examples import Examples
from unsteep.data.tables import table_rows, tidy
from unsteep.poses import PoseClip, Skeleton, read_clip, skeleton_of
from unsteep.poses.files import FORMATS
from unsteep.storage.foreign import reading, why

FILE = ("file", "file_name", "path", "pose")
TEXT = ("text", "gloss", "glosses", "caption", "words")
LANGUAGE = ("language", "signed_language")
Bad = list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class PoseExamples(Examples):
    """Clips in memory, and what their numbers mean: of `skeleton`, at `fps` frames a second; `relative`: points of
    hands relative to their wrists; `normalised`: clips moved and scaled by their shoulders; `truths`: the true clip of
    every text there may be, where the data know it."""

    skeleton: Skeleton | None = None
    fps: float = 0.0
    relative: bool = False
    normalised: bool = True
    truths: Mapping[str, PoseClip] = field(default_factory=dict)

    def clip(self, i: int) -> PoseClip:
        """Clip i as it is learned from, its hands where they are."""
        assert self.skeleton is not None
        assert self.weight is not None
        length = len(self.x[i]) if self.valid is None else int(self.valid[i].sum())
        axes = len(self.skeleton.axes)
        data, weight = (one[i, :length].unflatten(1, (-1, axes)).numpy() for one in (self.x, self.weight))
        clip = PoseClip(data, weight[..., 0], self.fps, self.skeleton)
        return clip.absolute() if self.relative else clip


@dataclass(frozen=True, kw_only=True)
class Poses:
    """path: the folder, or one file; texts: the table, where there is one; skeleton: one that comes with this package,
    or a TOML file, to whose points clips are reduced, else that of the first file; fps: frames a second, 0: those of
    the first file; trim, normalise: whether that is done; relative: points of hands relative to their wrists; classes:
    what the class of a clip is; longest: clips with more frames are left out; limit: keep the first so many; holdout:
    the fraction kept for testing; held: languages whose clips are kept for testing in its place; max_bad: the fraction
    that is tolerated of clips that will not do, and of texts without a clip."""

    path: str
    texts: str = ""
    skeleton: str = ""
    fps: float = 25.0
    trim: bool = True
    normalise: bool = True
    relative: bool = False
    classes: Literal["none", "text", "language"] = "none"
    longest: int = 0
    limit: int = 0
    holdout: float = 0.0
    held: tuple[str, ...] = ()
    max_bad: float = 0.1
    axes: ClassVar[int] = 2  # of one example
    mirrors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checked(self)
        if not 0 <= self.fps < 1e6 or self.longest < 0:
            raise ValueError(f"fps, longest: expected numbers of at least 0, got {self.fps}, {self.longest}")
        if self.classes != "none" and not self.texts:
            raise ValueError(f"classes: expected a table of texts to take the {self.classes} from; set texts")
        if self.held and (self.holdout or not self.texts):
            raise ValueError(
                "held: expected a table of texts with languages, and holdout=0; set these, or leave it out"
            )

    def read(self, split: Split = "train") -> PoseExamples:
        """float32 (n, frames, features), each frame its points one after another, with `valid` and `weight`.
        ValueError of one line for a folder, table or files that will not do; what is left out is in `skipped`."""
        files = self._files()
        said, skipped = self._said(files)
        chosen = self._chosen([one for one in files if not self.texts or one in said], said, split)
        read, bad = self._clips(files, chosen)
        skipped += bad
        clips = [clip for _, clip in read]
        texts = [said[one] for one, _ in read] if self.texts else []
        labels, names = self._labels(texts, list(said.values()))
        frames = max(map(len, clips))
        x, weight, valid = padded(clips, frames)
        rows = [(a, b) for a, b in texts if a]
        return PoseExamples(
            x,
            labels,
            names,
            files=tuple(one for one, _ in read),
            levels=None,
            skipped=tuple(skipped),
            source=f"{self.path}, clips of {clips[0].skeleton.describe()} at {clips[0].fps:g} frames a second",
            captions=tuple(text for text, _ in texts) if len(rows) == len(texts) else (),
            valid=valid,
            weight=weight,
            skeleton=clips[0].skeleton,
            fps=clips[0].fps,
            relative=self.relative,
            normalised=self.normalise,
        )

    def _files(self) -> dict[str, Path]:
        """The files by their names in the folder."""
        where = Path(self.path).expanduser()
        if where.is_file():
            return {where.name: where}
        if not where.is_dir():
            raise ValueError(f"data.path: expected a folder of .pose or .npz files, found none at {where}; give one")
        found = {p.relative_to(where).as_posix(): p for p in sorted(where.rglob("*")) if p.suffix.lower() in FORMATS}
        if not found:
            raise ValueError(f"{where}: expected .pose or .npz files in it, found none; give another folder")
        return found

    def _said(self, files: dict[str, Path]) -> tuple[dict[str, tuple[str, str]], Bad]:
        """Text and language of each file, and what of the table or of the files goes without."""
        said: dict[str, tuple[str, str]] = {}
        if not self.texts:
            return said, []
        table, bad = Path(self.texts).expanduser(), []
        with reading(table, f'a table with the columns "file" and one of {", ".join(TEXT)}'):
            for number, row in table_rows(table.read_bytes(), table.suffix.lower()):
                file, text, language = (
                    next((row[key] for key in keys if isinstance(row.get(key), str)), None)
                    for keys in (FILE, TEXT, LANGUAGE)
                )
                if file is None or text is None:
                    raise ValueError(f"line {number} without a file or a text, only {', '.join(row)}")
                name = PurePosixPath(file.strip().replace("\\", "/")).as_posix()
                if name not in files:
                    bad.append((name, "text without a clip"))
                elif name in said:
                    bad.append((name, "a further text of the same file"))
                else:
                    said[name] = tidy(text), tidy(language or "")
        lone = [one for one in bad if one[1] == "text without a clip"]
        self._tolerate(str(table), "texts name no clip here", lone, len(said) + len(lone))
        bare = [(name, "no text") for name in files if name not in said]
        self._tolerate(self.path, "clips have no text", bare, len(files))
        return said, [*bad, *bare]

    def _chosen(self, names: list[str], said: dict[str, tuple[str, str]], split: Split) -> list[str]:
        """The files of a split."""
        if self.held:
            languages = sorted({language for _, language in said.values()})
            if unknown := set(self.held) - set(languages):
                raise ValueError(f"held: expected some of {', '.join(languages)}, got {min(unknown)}")
            there = {"train": (False,), "test": (True,), "all": (False, True)}[split]
            names = [one for one in names if (said[one][1] in self.held) in there]
        rule: Split = "all" if self.held else split
        chosen = choose(len(names), source=self.path, split=rule, holdout=self.holdout, limit=self.limit)
        return [names[i] for i in chosen.index.tolist()]

    def _clips(self, files: dict[str, Path], names: list[str]) -> tuple[list[tuple[str, PoseClip]], Bad]:
        """The clips as they are learned from, and which are left out."""
        skeleton = skeleton_of(self.skeleton) if self.skeleton else None
        fps, found, bad = self.fps, [], []
        for name in names:
            try:
                clip = read_clip(files[name])
                skeleton, fps = skeleton or clip.skeleton, fps or clip.fps
                found.append((name, self._prepared(clip, skeleton, fps)))
            except ValueError as error:
                said = why(error)
                bad.append((name, said.removeprefix(f"{files[name]}: ").partition("; get it")[0]))
        self._tolerate(self.path, "clips will not do", bad, len(names))
        if not found:
            raise ValueError(f"{self.path}: not one clip will do: {bad[0][0]}: {bad[0][1]}")
        return found, bad

    def _prepared(self, clip: PoseClip, skeleton: Skeleton, fps: float) -> PoseClip:
        clip = clip.reduced(skeleton)
        if not clip.known.any():
            raise ValueError("all points are missing")
        clip = (clip.trimmed() if self.trim else clip).resampled(fps)
        clip = clip.normalised() if self.normalise else clip
        if self.longest and len(clip) > self.longest:
            raise ValueError(f"longer than {self.longest} frames")
        clip = clip.relative() if self.relative else clip
        return replace(clip, size=(0, 0, 0))

    def _labels(
        self, texts: Sequence[tuple[str, str]], every: Sequence[tuple[str, str]]
    ) -> tuple[Tensor | None, tuple[str, ...]]:
        """The class of each clip, and the names of all there are in any split."""
        if self.classes == "none":
            return None, ()
        named = [pair[self.classes == "language"] for pair in texts]
        if not all(named):
            raise ValueError(f"{self.texts}: expected a {self.classes} of every clip, got some without; fill them in")
        names = tuple(sorted({pair[self.classes == "language"] for pair in every}))
        return torch.tensor([names.index(one) for one in named]), names

    def _tolerate(self, where: str, what: str, bad: Bad, count: int) -> None:
        if len(bad) > self.max_bad * count:
            reasons = f": {bad[0][1]}" if what == "clips will not do" else ""
            names = shorten([file for file, _ in bad], 3)
            raise ValueError(
                f"{where}: {len(bad)} of {count} {what} ({names}{reasons}); correct them, or raise data.max_bad"
            )


def padded(clips: Sequence[PoseClip], frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers and their weights, float32 (n, frames, features), and which frames are real, bool (n, frames)."""
    features = clips[0].data[0].size
    x, weight = (np.zeros((len(clips), frames, features), np.float32) for _ in range(2))
    for i, clip in enumerate(clips):
        known = clip.known[..., None]
        x[i, : len(clip)] = np.where(known, clip.data, 0).reshape(len(clip), -1)
        counts = np.minimum(clip.confidence, 1)[..., None] * known
        weight[i, : len(clip)] = np.broadcast_to(counts, clip.data.shape).reshape(len(clip), -1)
    lengths = torch.tensor([len(clip) for clip in clips])
    return torch.from_numpy(x), torch.from_numpy(weight), torch.arange(frames) < lengths[:, None]
