"""Level tokens at the real answer position, under tokenizers that merge, split and confuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q_align.errors import LevelTokenError
from q_align.levels import WORDS
from q_align.models.chat.answer import PRAISE, StemTokens, level_tokens, stem_tokens

STEM = "The quality of the image is"
END = "<end>"


class Toy:
    """A tokenizer of whole pieces: the longest known piece wins, else one character."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = sorted({END, STEM, *pieces}, key=len, reverse=True)
        self.ids: dict[str, int] = {}

    def __call__(self, text: str) -> list[int]:
        found = []
        while text:
            piece = next((p for p in self.pieces if text.startswith(p)), text[0])
            found.append(self.ids.setdefault(piece, len(self.ids)))
            text = text[len(piece) :]
        return found


def spaced(*words: str) -> list[str]:
    return [f" {word}" for word in words]


def test_plain_words() -> None:
    toy = Toy(*spaced(*WORDS))
    assert stem_tokens(toy, "Assistant:\n", STEM) == StemTokens(0, (toy.ids[STEM],))
    found = level_tokens(toy, "Assistant:\n", STEM, WORDS, END)
    assert found == (tuple(toy.ids[f" {w}"] for w in WORDS), 2), "the full stop and the end follow"


def test_a_word_that_merges_with_the_full_stop_is_refused() -> None:
    toy = Toy(*spaced(*WORDS), " good.")
    with pytest.raises(LevelTokenError, match=r"'good' is not a single token.*readout\.words"):
        level_tokens(toy, "\n", STEM, WORDS, END)


def test_a_word_that_changes_the_stem_is_refused() -> None:
    toy = Toy(*spaced(*WORDS), f"{STEM} bad")
    with pytest.raises(LevelTokenError, match="'bad' is not a single token"):
        level_tokens(toy, "\n", STEM, WORDS, END)


def test_words_of_one_token_twice_are_refused() -> None:
    toy = Toy(*spaced(*WORDS))
    joined = {" poor": " bad"}
    with pytest.raises(LevelTokenError, match="'poor' and 'bad' are the same token"):
        level_tokens(lambda text: toy("".join(text.replace(a, b) for a, b in joined.items())), "\n", STEM, WORDS, END)


def test_proposes_only_words_that_work() -> None:
    toy = Toy(*spaced("superb", "good", "medium", "low", "bad"))
    with pytest.raises(LevelTokenError, match=r"these work: superb, good, medium, low, bad$"):
        level_tokens(toy, "\n", STEM, WORDS, END)


def test_an_opening_that_merges_with_the_stem() -> None:
    toy = Toy(*spaced(*WORDS), f"\n{STEM}")
    assert stem_tokens(toy, "Assistant:\n", STEM) == StemTokens(1, (toy.ids[f"\n{STEM}"],))


@given(st.permutations([word for group in PRAISE for word in group]), st.integers(2, 7))
def test_tokens_follow_the_words(pool: list[str], count: int) -> None:
    words = pool[:count]
    toy = Toy(*spaced(*pool))
    levels, tail = level_tokens(toy, "\n", STEM, words, END)
    assert levels == tuple(toy.ids[f" {word}"] for word in words)
    for word, token in zip(words, levels):
        whole = toy(f"\n{STEM} {word}.{END}")
        assert tail == 2
        assert whole == [*toy(f"\n{STEM}"), token, *toy(f".{END}")], "training sees exactly these tokens"
