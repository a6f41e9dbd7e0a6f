"""Tokens of stems and level words, checked at the real answer position.

The same word is another token after a space, and some tokenizers merge it with what follows. So nothing is assumed:
opening, stem, word and full stop are tokenised together, as training sees them, and compared with the scoring prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from q_align.errors import LevelTokenError

Tokenize = Callable[[str], list[int]]

# Words of falling praise; proposed, as far as they are single tokens, where a user's words are not.
PRAISE = (
    ("excellent", "perfect", "superb", "great", "best", "beautiful"),
    ("good", "high", "nice", "fine", "strong", "better"),
    ("fair", "average", "medium", "okay", "normal", "middle"),
    ("poor", "low", "weak", "worse", "small", "soft"),
    ("bad", "terrible", "awful", "worst", "ugly", "broken"),
)


@dataclass(frozen=True, slots=True)
class StemTokens:
    """Token ids of a stem behind the opening.

    Attributes:
        drop: tokens at the end of the opening that merge with the stem, and are replaced by it; usually 0.
        ids: ids of the stem (with what it swallowed of the opening).
    """

    drop: int
    ids: tuple[int, ...]


def stem_tokens(tokenize: Tokenize, opening: str, stem: str) -> StemTokens:
    """Tokens of `stem` behind `opening`.

    Args:
        opening: text up to the stem, without frames.
        stem: "The quality of the image is", with the space that may belong before it.
    """
    start, prompt = tokenize(opening), tokenize(opening + stem)
    same = _common(start, prompt)
    return StemTokens(len(start) - same, tuple(prompt[same:]))


def level_tokens(
    tokenize: Tokenize, opening: str, stem: str, words: Sequence[str], end: str
) -> tuple[tuple[int, ...], int]:
    """Ids of the level words behind `opening` and `stem`, and the number of tokens that follow a word.

    Args:
        opening, stem: see `stem_tokens`.
        words: level words, best first.
        end: the token that ends the turn.

    Raises:
        LevelTokenError: when a word is not a single token there, two words share one, or a word changes the tokens
            before or behind it; proposes words that work.
    """
    prompt = tokenize(opening + stem)
    tail = _tail(tokenize, prompt, opening + stem, words, end)
    levels = [_level(tokenize, prompt, f"{opening}{stem} {word}.{end}", tail) for word in words]
    broken = [word for word, token in zip(words, levels) if token is None]
    doubled = [word for word, token in zip(words, levels) if token is not None and levels.count(token) > 1]
    if broken or doubled:
        faults = [f"{word!r} is not a single token" for word in broken]
        faults += [f"{' and '.join(map(repr, doubled))} are the same token"] if doubled else []
        better = _propose(lambda word: _level(tokenize, prompt, f"{opening}{stem} {word}.{end}", tail), words, broken)
        raise LevelTokenError(
            f"{'; '.join(faults)} after {stem.strip()!r} under this tokenizer; choose words that are single, distinct "
            f"tokens (readout.words){better}"
        )
    return tuple(token for token in levels if token is not None), len(tail)


def _level(tokenize: Tokenize, prompt: list[int], text: str, tail: list[int]) -> int | None:
    """The one token between prompt and tail, or None where there is not exactly one or its neighbours change."""
    ids = tokenize(text)
    fits = len(ids) == len(prompt) + 1 + len(tail) and ids[: len(prompt)] == prompt and ids[len(prompt) + 1 :] == tail
    return ids[len(prompt)] if fits else None


def _tail(tokenize: Tokenize, prompt: list[int], text: str, words: Sequence[str], end: str) -> list[int]:
    """What follows a single-token level word: what most words are followed by, one token after the prompt."""
    tried = dict.fromkeys([*words, *(word for group in PRAISE for word in group)])
    rests = Counter(tuple(tokenize(f"{text} {word}.{end}")[len(prompt) + 1 :]) for word in tried)
    return list(rests.most_common(1)[0][0])


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _propose(level: Callable[[str], int | None], words: Sequence[str], broken: Sequence[str]) -> str:
    """'; these work: ...' with a full set of words, the user's own where they are fine."""
    chosen: list[str] = []
    used: set[int] = set()
    for rank, word in enumerate(words):
        group = PRAISE[round(rank * (len(PRAISE) - 1) / max(1, len(words) - 1))]
        for candidate in (*([] if word in broken else [word]), *group):
            token = level(candidate)
            if token is not None and token not in used:
                chosen.append(candidate)
                used.add(token)
                break
    if len(chosen) < len(words):
        return f"; these are: {', '.join(chosen)}" if chosen else ""
    return f"; these work: {', '.join(chosen)}"
