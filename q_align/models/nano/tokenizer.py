"""nano's tokenizer: one token for each word that raters and their questions use, characters and bytes for the rest.

A unigram model whose words always beat their letters: a word of the list is one token wherever it stands, and any other
text is encoded without loss, letter by letter. The vocabulary is fixed: ids are rows of the embedding of every
checkpoint, so a new task or a new level word adds none.
"""

from __future__ import annotations

import string

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from q_align.errors import CheckpointError

PAD, BEGIN, END, IMAGE, RATER = SPECIAL = ("<pad>", "<s>", "</s>", "<image>", "<rater>")
SPACE = "▁"
LEVELS = ("excellent", "good", "fair", "poor", "bad")
# Words of the questions and stems of iqa, iaa and vqa. A word that is not here is spelt in letters.
QUESTIONS = """
Can Could How Rate The What Whats about aesthetics assess clip do evaluate for image is judge of on opinion picture
quality rate rating the think this video would you your
"""
# Words that people name levels with, and talk about images with. Each comes capitalised as well.
LEXICON = """
perfect superb great high very fine nice decent okay average medium mediocre moderate acceptable adequate ordinary
normal middling low weak inferior unacceptable terrible awful horrible worst best better worse outstanding exceptional
amazing wonderful beautiful pleasing pretty attractive appealing plain dull boring ugly unpleasant disturbing
imperceptible perceptible slightly annoying somewhat extremely fairly quite rather too much little less more most
least not no yes never always sharp blurry blurred clear noisy clean grainy smooth bright dark dim overexposed
underexposed exposed hazy foggy colourful colorful faded vivid saturated compressed blocky distorted natural
artificial realistic unrealistic real fake safe unsafe true false the a an of in on at to and or but with without for
from by as it its this that these those is are was be been being has have had do does did can could would should will
may might must i you we they he she my your our their what which who how why when where image picture photo photograph
video clip frame scene quality aesthetics aesthetic technical overall score rating rate rated level opinion value
number points out scale text light lighting focus motion blur noise detail details artifacts compression exposure
contrast color colour colors colours composition subject background foreground sky person people face animal building
street water tree grass one two three four five six seven eight nine ten zero hundred because so there here looks look
seems seem appears appear shows show see seen makes make think judge evaluate assess describe answer question please
tell me about
"""


def special(tokenizer: Tokenizer, name: str) -> int:
    """Id of a special token.

    Raises:
        CheckpointError: when the tokenizer has no such token, and so is not nano's.
    """
    number = tokenizer.token_to_id(name)
    if number is None:
        raise CheckpointError(f"tokenizer.json has no token {name!r}; it is not nano's")
    return number


def make_tokenizer() -> Tokenizer:
    """The tokenizer; every call gives the same one."""
    lexicon = LEXICON.split()
    capitals = (word.capitalize() for word in (*LEVELS, *lexicon))
    words = [*LEVELS, *QUESTIONS.split(), *lexicon, *capitals, *map(str, range(101))]
    unique = dict.fromkeys(SPACE + word for word in words)
    letters = [c for c in string.printable if not c.isspace()]
    pieces = [(name, 0.0) for name in SPECIAL] + [(f"<0x{byte:02X}>", -30.0) for byte in range(256)]
    pieces += [(word, -1.0) for word in unique] + [(SPACE, -10.0)] + [(c, -10.0) for c in letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index(PAD), byte_fallback=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return tokenizer
