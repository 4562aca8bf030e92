"""Text against sound: where in a recording each character is heard (CTC forced alignment)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor, nn

from ..config import SpeechConfig
from ..errors import InputError

HOLD_ROWS = 10
"""Rows (0.2 s) a character lasts beyond the rows it was heard in, where no other follows; then there is a pause."""


@dataclass(frozen=True)
class CharacterSpan:
    """A token and the rows first .. stop - 1 (50 per second) in which it is heard; score: mean log-probability."""

    token: int
    first: int
    stop: int
    score: float


def align_text(emissions: Tensor, tokens: Sequence[int] | Tensor, *, blank: int = 0) -> list[CharacterSpan]:
    """The most probable path of `tokens` [N] through emissions [R, V] (log-probabilities or logits).

    Raises InputError for tokens outside the vocabulary or more of them than the rows have room for
    (a token that repeats its neighbour needs a row of its own between them).
    """
    targets = torch.as_tensor(tokens, dtype=torch.int64).flatten().cpu()
    if targets.numel() == 0:
        return []
    if bool((targets == blank).any()) or int(targets.min()) < 0 or int(targets.max()) >= emissions.shape[-1]:
        raise InputError(f"tokens to align must be in 0..{emissions.shape[-1] - 1} and not the blank {blank}")
    needed = targets.numel() + int((targets[1:] == targets[:-1]).sum())
    if needed > emissions.shape[0]:
        raise InputError(
            f"the text needs at least {needed / 50:.2f} s of speech, but the recording has "
            f"{emissions.shape[0] / 50:.2f} s; is it the right transcript?"
        )
    scores = emissions.detach().float().cpu().log_softmax(-1)
    path, path_scores = torchaudio.functional.forced_align(scores[None], targets[None], blank=blank)
    merged = torchaudio.functional.merge_tokens(path[0], path_scores[0], blank=blank)
    return [CharacterSpan(int(m.token), int(m.start), int(m.end), float(m.score)) for m in merged]


def spread(states: Tensor, spans: Sequence[CharacterSpan], rows: int, *, hold: int = HOLD_ROWS) -> Tensor:
    """states [N, D] of the characters in `spans` -> [rows, D].

    CTC emits a character as a short spike somewhere in its sound: each row takes the state of the character
    nearest to it, at most `hold` rows away; rows farther from all are zeros.
    """
    if not spans:
        return states.new_zeros(rows, states.shape[-1])
    first = torch.tensor([s.first for s in spans], device=states.device)
    last = torch.tensor([s.stop - 1 for s in spans], device=states.device)
    row = torch.arange(rows, device=states.device)
    # Spans are in order and do not overlap, so the nearest is the last begun or the one after it.
    begun = (torch.searchsorted(first, row, right=True) - 1).clamp(min=0)
    following = (begun + 1).clamp(max=len(spans) - 1)
    past = torch.maximum((row - last[begun]).clamp(min=0), (first[begun] - row).clamp(min=0))
    ahead = (first[following] - row).abs()
    nearest = torch.where((past > 0) & (ahead < past), following, begun)
    near = torch.minimum(past, torch.where(following > begun, ahead, past)) <= hold
    return states[nearest] * near.to(states.dtype)[:, None]


class CtcHead(nn.Module):
    """Characters per row, from the wav2vec 2.0 states of a recogniser fine-tuned with CTC.

    vocabulary: the character of each output, the blank first of all named by its index; `|` is the space.
    """

    def __init__(self, width: int, vocabulary: Sequence[str], *, blank: int = 0) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self.blank = blank
        self.linear = nn.Linear(width, len(self.vocabulary))

    def forward(self, rows: Tensor) -> Tensor:
        """rows [B, R, D] -> log-probabilities [B, R, V]."""
        return self.linear(rows).log_softmax(-1)

    def tokens(self, text: str) -> list[int]:
        """The tokens of `text`: either case, spaces as `|`, punctuation left out.

        Raises InputError for letters or digits that the vocabulary lacks, or where nothing is left.
        """
        known = {c: i for i, c in enumerate(self.vocabulary) if len(c) == 1}
        tokens: list[int] = []
        for character in "|".join(text.split()):
            options = [c for c in (character, character.lower(), character.upper()) if c in known]
            if options:
                tokens.append(known[options[0]])
            elif character.isalnum():
                raise InputError(
                    f"the speech recogniser does not know {character!r} in the transcript; "
                    "write it in letters of its language (numbers as words)"
                )
        if not any(self.vocabulary[t] != "|" for t in tokens):
            raise InputError("the transcript has no letters; give the words that are spoken, or none")
        return tokens

    def align(self, emissions: Tensor, text: str) -> list[tuple[str, CharacterSpan]]:
        """Each character of `text` with the rows of emissions [R, V] in which it is heard; spaces are " "."""
        spans = align_text(emissions, self.tokens(text), blank=self.blank)
        return [(self.vocabulary[s.token].replace("|", " "), s) for s in spans]

    def transcribe(self, emissions: Tensor) -> str:
        """Greedy decoding of emissions [R, V]: best token of each row, repeats merged, blanks dropped."""
        best = torch.unique_consecutive(emissions.argmax(-1)).tolist()
        characters = [self.vocabulary[t] for t in best if t != self.blank]
        return " ".join("".join(c for c in characters if len(c) == 1).replace("|", " ").split())

    @classmethod
    def from_pretrained(cls, config: SpeechConfig) -> CtcHead:
        """The head that came with `config.pretrained` (a folder or hub name with vocab.json).

        Raises InputError where it cannot be had or holds no such head.
        """
        from .weights import read_json, read_weights

        vocabulary = read_json(config.pretrained, "vocab.json")
        weights = read_weights(config.pretrained)
        if "lm_head.weight" not in weights:
            raise InputError(f"{config.pretrained} holds no CTC head (lm_head); name a fine-tuned recogniser")
        count = weights["lm_head.weight"].shape[0]
        names = {index: name for name, index in vocabulary.items()}
        settings = read_json(config.pretrained, "config.json")
        head = cls(config.width, [names.get(i, f"<{i}>") for i in range(count)], blank=settings.get("pad_token_id", 0))
        head.linear.load_state_dict({"weight": weights["lm_head.weight"], "bias": weights["lm_head.bias"]}, strict=True)
        return head
