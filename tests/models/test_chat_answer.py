"""Level tokens at the real answer position, under tokenizers that merge, split and confuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q_align.errors import LevelTokenError
from q_align.levels import WORDS
from q_align.models.chat.answer import PRAISE, Answer, resolve

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
    answer = resolve(toy, "Assistant:\n", STEM, WORDS, END)
    assert answer == Answer(0, (toy.ids[STEM],), tuple(toy.ids[f" {w}"] for w in WORDS), (toy.ids["."], toy.ids[END]))


def test_a_word_that_merges_with_the_full_stop_is_refused() -> None:
    toy = Toy(*spaced(*WORDS), " good.")
    with pytest.raises(LevelTokenError, match=r"'good' is not a single token.*levels\.words"):
        resolve(toy, "\n", STEM, WORDS, END)


def test_a_word_that_changes_the_stem_is_refused() -> None:
    toy = Toy(*spaced(*WORDS), f"{STEM} bad")
    with pytest.raises(LevelTokenError, match="'bad' is not a single token"):
        resolve(toy, "\n", STEM, WORDS, END)


def test_words_of_one_token_twice_are_refused() -> None:
    toy = Toy(*spaced(*WORDS))
    joined = {" poor": " bad"}
    with pytest.raises(LevelTokenError, match="'poor' and 'bad' are the same token"):
        resolve(lambda text: toy("".join(text.replace(a, b) for a, b in joined.items())), "\n", STEM, WORDS, END)


def test_proposes_only_words_that_work() -> None:
    toy = Toy(*spaced("superb", "good", "medium", "low", "bad"))
    with pytest.raises(LevelTokenError, match=r"these work: superb, good, medium, low, bad$"):
        resolve(toy, "\n", STEM, WORDS, END)


def test_an_opening_that_merges_with_the_stem() -> None:
    toy = Toy(*spaced(*WORDS), f"\n{STEM}")
    answer = resolve(toy, "Assistant:\n", STEM, WORDS, END)
    assert answer.drop == 1
    assert answer.stem == (toy.ids[f"\n{STEM}"],)


@given(st.permutations([word for group in PRAISE for word in group]), st.integers(2, 7))
def test_tokens_follow_the_words(pool: list[str], count: int) -> None:
    words = pool[:count]
    toy = Toy(*spaced(*pool))
    answer = resolve(toy, "\n", STEM, words, END)
    assert answer.levels == tuple(toy.ids[f" {word}"] for word in words)
    for word, token in zip(words, answer.levels):
        whole = toy(f"\n{STEM} {word}.{END}")
        assert whole == [*toy(f"\n{STEM}"), token, *answer.tail], "training sees exactly these tokens"
