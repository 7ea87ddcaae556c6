"""Pretrained text encoders, frozen: prompts -> tokens for cross-attention.

What is taken is the last hidden state, a vector for each token, after the model's last normalization where it has one:

    bert              MiniLM and other models in the shape of BERT: the last block, normalized
    clip              CLIP's text transformer, causal, through its final normalization
    t5                the encoder of T5, through its final normalization

A prompt is embedded once, before training or sampling; the network that looks at the tokens projects them to its
width and adds the null (`networks.text.NullText`). Tokens at padding are 0, and no other token looked at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unsteep.networks.pretrained import Tokenizer, load_pretrained

ARCHITECTURES = {
    "bert": "BertModel",
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel",
}
WITHOUT_POSITIONS = 512  # T5 has no table of positions to run out of; it was trained on so many tokens
CHUNK = 64
REMEMBERED = 20_000  # prompts


class PretrainedText:
    """A frozen text encoder: `embed(prompts)`.

    `kind`: the model_type of its folder; `width`: features of a token; `limit`: the most tokens of a prompt, special
    ones included; `digest`: SHA-256 of configuration and weights.
    """

    def __init__(self, folder: str | Path, *, limit: int | None = None, device: torch.device | str = "cpu") -> None:
        loaded = load_pretrained(folder, ARCHITECTURES, device=device)
        most = getattr(loaded.config, "max_position_embeddings", WITHOUT_POSITIONS)
        if limit is not None and not 3 <= limit <= most:  # two special tokens and a word
            raise ValueError(f"limit: expected 3 to {most} tokens for this {loaded.kind} model, got {limit}")
        self.kind, self.digest, self.device = loaded.kind, loaded.digest, device
        self.width: int = loaded.config.hidden_size
        self.limit: int = limit or most
        self._model = loaded.model
        self._tokenize = Tokenizer(folder, self.limit)
        self._seen: dict[str, Tensor] = {}

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], warn: bool = True) -> tuple[Tensor, Tensor]:
        """Tokens float32 (b, length, width) and mask bool (b, length), on the CPU; equal prompts are embedded once,
        and the last of them are remembered.

        length: that of the longest prompt. Prompts beyond the limit are cut, with a warning unless `warn` is false.
        """
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._seen]
        if len(self._seen) + len(new) > REMEMBERED:
            self._seen.clear()
            new = list(dict.fromkeys(prompts))
        if new:
            ids, masks = self._tokenize(new, warn)
            told = [
                self._model(input_ids=i.to(self.device), attention_mask=m.to(self.device)).last_hidden_state.cpu()
                for i, m in zip(ids.split(CHUNK), masks.split(CHUNK), strict=True)
            ]
            for prompt, tokens, mask in zip(new, torch.cat(told), masks, strict=True):
                self._seen[prompt] = tokens[: int(mask.sum())].clone()
        found = [self._seen[prompt] for prompt in prompts]
        lengths = torch.tensor([len(one) for one in found])
        valid = torch.arange(max(1, int(lengths.max()))) < lengths[:, None]
        whole = torch.zeros(*valid.shape, self.width)
        whole[valid] = torch.cat(found)
        return whole, valid


def pretrained_text(
    folder: str | Path, *, limit: int | None = None, device: torch.device | str = "cpu"
) -> PretrainedText:
    """The text encoder of a local folder with config.json, model.safetensors and tokenizer.json.

    `limit`: the most tokens of a prompt; None: as many as the model has positions for, 512 for T5. Needs the extra
    `unsteep[pretrained]`. Raises ValueError where something is missing or of a kind that is not known.
    """
    return PretrainedText(folder, limit=limit, device=device)
