"""From strings to numbers: a vocabulary of pieces of text, learned from captions.

A `Vocabulary` cuts text into pieces and numbers them. Byte-pair encoding (Gage 1994; Sennrich et al. 2016, algorithm
1) starts from single characters and again and again joins the commonest pair of neighbours within a word; a
vocabulary of characters is one without joins. Text is normalized first (NFKC, case folded, white space to one space),
so that "A  Red Circle" and "a red circle" are one prompt. A word takes the space before it along.

Every batch is padded to its longest prompt, and a mask says which positions are real. A prompt without a valid token
("", or a condition that was dropped) is no text.
"""

from __future__ import annotations

import json
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from unsteep.networks.checks import check_at_least

PADDING, UNKNOWN, FIRST = 0, 1, 2  # the ids of padding, of what is in no piece, and of the first piece
WORD = re.compile(r" ?\w+| ?[^\w\s]+")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """Pieces of text and their ids: 0 is padding, 1 an unknown character, then `characters`, then what `merges` make.

    `merges`: pairs of pieces, in the order in which encoding joins them.
    """

    characters: tuple[str, ...]
    merges: tuple[Pair, ...] = ()

    @classmethod
    def learn(
        cls, captions: Iterable[str], *, kind: Literal["bpe", "characters"] = "bpe", size: int = 512
    ) -> Vocabulary:
        """At most `size` ids for what `captions` hold: the commonest characters, then, for "bpe", the commonest pairs.

        The same captions in any order give the same vocabulary: ties go to what sorts first. Raises ValueError if
        there is no text in the captions, or `size` is below 3.
        """
        check_at_least(3, size=size)
        words = Counter(word for caption in captions for word in _words(caption))
        if not words:
            raise ValueError("captions: expected some text to learn a vocabulary from, got none")
        counts: Counter[str] = Counter()
        for word, n in words.items():
            counts.update({character: n * word.count(character) for character in set(word)})
        room = size - FIRST
        characters = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:room])
        return cls(tuple(characters), _learn_merges(words, characters, room) if kind == "bpe" else ())

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """The vocabulary that `to_json` wrote; ValueError for any other text."""
        try:
            stored = json.loads(text)
            return cls(tuple(stored["characters"]), tuple((str(a), str(b)) for a, b in stored["merges"]))
        except (ValueError, KeyError, TypeError):
            raise ValueError("expected a vocabulary as Vocabulary.to_json writes it, got another text") from None

    def to_json(self) -> str:
        """The vocabulary as text, to live in a model's folder."""
        return json.dumps({"characters": "".join(self.characters), "merges": self.merges})

    def __len__(self) -> int:
        return FIRST + len(self.pieces)

    def encode(self, texts: Sequence[str], limit: int, warn: bool = True) -> tuple[Tensor, Tensor]:
        """Ids int64 (b, length) and mask bool (b, length), length being that of the longest text and at least 1.

        Texts of more than `limit` pieces are cut, with a warning that says how many unless `warn` is false.
        """
        check_at_least(1, limit=limit)
        rows = [[i for word in _words(text) for i in self._ids(word)] for text in texts]
        if warn:
            warn_cut(sum(len(row) > limit for row in rows), len(rows), limit)
        return padded([row[:limit] for row in rows])

    def decode(self, ids: Tensor) -> str:
        """The normalized text of ids (length,); an unknown character reads as U+FFFD."""
        return "".join("\ufffd" if i == UNKNOWN else self.pieces[i - FIRST] for i in ids.tolist() if i).strip()

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The text of each id from 2 on. Two merges may spell the same piece, which then has one id."""
        return tuple(dict.fromkeys((*self.characters, *(a + b for a, b in self.merges))))

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.pieces, FIRST)}

    @cached_property
    def _rank(self) -> dict[Pair, int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _seen(self) -> dict[str, list[int]]:
        return {}  # the ids of words met before: captions repeat theirs

    def _ids(self, word: str) -> list[int]:
        if word not in self._seen:
            parts = list(word)
            while pairs := [pair for pair in pairwise(parts) if pair in self._rank]:
                parts = _joined(parts, min(pairs, key=self._rank.__getitem__))
            self._seen[word] = [self._id_of.get(part, UNKNOWN) for part in parts]
        return self._seen[word]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids as int64 (b, length), zeros behind each, and the mask bool (b, length); length at least 1."""
    length = max([1, *(len(row) for row in rows)])
    ids = torch.tensor([[*row, *[PADDING] * (length - len(row))] for row in rows], dtype=torch.int64)
    counts = torch.tensor([len(row) for row in rows])
    return ids.reshape(-1, length), torch.arange(length) < counts[:, None]


def warn_cut(cut: int, prompts: int, limit: int, stacklevel: int = 3) -> None:
    """Warn, if any of them were, that prompts were cut; `stacklevel` 3: the caller of who calls this."""
    if cut:
        what = f"{cut} of {prompts} prompts were cut to the limit of {limit} tokens; shorten them"
        warnings.warn(what, stacklevel=stacklevel)


def _words(text: str) -> list[str]:
    return WORD.findall(" " + " ".join(unicodedata.normalize("NFKC", text).casefold().split()))


def _joined(parts: list[str], pair: Pair) -> list[str]:
    """`parts` with each neighbouring `pair`, from the left, made one."""
    out: list[str] = []
    i = 0
    while i < len(parts):
        step = 2 if tuple(parts[i : i + 2]) == pair else 1
        out.append("".join(parts[i : i + step]))
        i += step
    return out


def _learn_merges(words: Counter[str], characters: list[str], room: int) -> tuple[Pair, ...]:
    """The commonest pair, joined everywhere, and so on until there are `room` pieces or no pair occurs twice."""
    pieces, merges = set(characters), []
    parts = {word: list(word) for word in words}
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[str]] = defaultdict(set)  # words that hold a pair, or once did

    def count(word: str, sign: int) -> None:
        for pair in pairwise(parts[word]):
            counts[pair] += sign * words[word]
            where[pair].add(word)

    for word in words:
        count(word, +1)
    while counts and len(pieces) < room:
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if counts[best] < 2:
            break
        merges.append(best)
        holders = where.pop(best)
        for word in holders:
            count(word, -1)
        pieces.add(best[0] + best[1])
        for word in holders:
            parts[word] = _joined(parts[word], best)
            count(word, +1)
        del counts[best]
    return tuple(dict.fromkeys(merges))
