"""Pretrained models from folders in the layout of Hugging Face: config.json beside model.safetensors.

Nothing is fetched and nothing that is read can execute: the folder is local, the architecture is one of those that
the transformers package carries, weights are safetensors, tokenizers are tokenizer.json. A weight that the folder
lacks is an error, never a random number. What is read is known by its digest, and is frozen.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unsteep.networks.text import padded, warn_cut

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A frozen model in float32 and evaluation mode; `kind`: its folder's model_type; `digest`: `folder_digest`."""

    kind: str
    model: nn.Module
    digest: str

    @property
    def config(self) -> Any:
        """The model's own configuration, as transformers reads it."""
        return self.model.config


def load_pretrained(
    folder: str | Path, architectures: Mapping[str, str], *, device: torch.device | str = "cpu"
) -> Pretrained:
    """The model in `folder`. `architectures`: the class of transformers for each model_type that will do.

    Raises ValueError if the folder, a file, a weight or the transformers package is missing, if the weights are
    pickled, or the model is of another type.
    """
    folder = Path(folder)
    kind = _model_type(folder, architectures)
    digest = folder_digest(folder)
    transformers = _package("transformers")
    with _quiet(transformers):
        try:
            model, loaded = getattr(transformers, architectures[kind]).from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="eager",  # which every model has, in every version
                output_loading_info=True,
            )
        except Exception as error:  # the packages have no common class of errors for what is wrong with a file
            raise ValueError(f"{folder}: expected the weights of a {kind} model; {_first_line(error)}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(
            f"{folder}: expected all weights of a {architectures[kind]}, got none for {len(missing)} of them, such as "
            f"{missing[0]}; use a folder that holds the whole model"
        )
    return Pretrained(kind, model.to(device).requires_grad_(False).eval(), digest)


def folder_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of config.json, weights and tokenizer, all that the numbers come from."""
    files = [folder / "config.json", *_weight_files(folder), *folder.glob("tokenizer.json")]
    digests = {}
    for file in files:
        with file.open("rb") as stream:
            digests[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


class Tokenizer:
    """The tokenizer.json of a folder: prompts -> ids int64 (b, length) and mask bool (b, length).

    Special tokens are added as the file says. Prompts of more than `limit` tokens are cut between them, with a
    warning that says how many unless `warn` is false. Padding is id 0, under a mask that is False.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        file = Path(folder) / "tokenizer.json"
        if not file.is_file():
            raise ValueError(
                f"{file}: expected a tokenizer in one file, got nothing; copy the model's there, or write it by "
                "save_pretrained() of the model's fast tokenizer in transformers"
            )
        try:
            self._tokenizer = _package("tokenizers").Tokenizer.from_file(str(file))
        except Exception as error:  # the package raises no class of its own
            if isinstance(error, ValueError):
                raise
            raise ValueError(f"{file}: expected a tokenizer, got something else ({_first_line(error)})") from None
        self.limit = limit
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(limit)

    def __call__(self, prompts: Sequence[str], warn: bool = True) -> tuple[Tensor, Tensor]:
        encoded = self._tokenizer.encode_batch(list(prompts))
        cut = sum(bool(one.overflowing) for one in encoded) if warn else 0
        warn_cut(cut, len(encoded), self.limit, stacklevel=5)  # who called the method that called this, under no_grad
        return padded([one.ids for one in encoded])


def _model_type(folder: Path, known: Mapping[str, str]) -> str:
    """The model_type of config.json, once it is one of the known; ValueError otherwise."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(
            f"{folder}: expected a folder with config.json and model.safetensors, got "
            f"{'no config.json in it' if folder.is_dir() else 'no such folder'}"
        )
    try:
        kind = json.loads(file.read_bytes())["model_type"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{file}: expected JSON with a model_type, got something else") from None
    if kind not in known:
        raise ValueError(f"{file}: expected a model_type of {', '.join(sorted(known))}, got {kind!r}")
    return kind


def _weight_files(folder: Path) -> list[Path]:
    whole = folder / "model.safetensors"
    if files := [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors")):
        return files
    pickled = sorted(file.name for pattern in PICKLED for file in folder.glob(pattern))
    if pickled:
        raise ValueError(
            f"{folder}: expected model.safetensors, got {pickled[0]}, whose pickle can run any code when it is read; "
            "get the model's safetensors, or convert it where that is safe: from_pretrained(), then save_pretrained()"
        )
    raise ValueError(f"{folder}: expected model.safetensors, got no weights")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            f'expected the package {name} to read a pretrained model, got none; pip install "unsteep[pretrained]"'
        ) from None


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars and reports: what is wrong with a folder, we say."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
