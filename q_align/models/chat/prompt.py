"""The layout of a prompt as text with {image}, {question} and {stem}, found by asking a chat template.

A template is a program; what it does with one and with two images shows where frames go and what marks one.
The layout travels in `q_align.json`, so that a later change of the template does not change scores.
Knows templates and text; no tokens, no images, no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from q_align.errors import CheckpointError
from q_align.models.chat.render_template import render_conversations

QUESTION, ANSWER = "Which?", "This."


@dataclass(frozen=True, slots=True)
class Layout:
    """Attributes:
    text: prompt with {image} (all frames), {question} and, at its end, {stem}.
    frame: text that marks one frame.
    end: text that ends the assistant's turn; "" where the template has none.
    """

    text: str
    frame: str
    end: str = ""

    def opening(self, question: str, frames: int) -> str:
        """The prompt up to the stem, with the space that belongs before it left to `glue`."""
        before = self.text.partition("{stem}")[0].rstrip(" ")
        return before.replace("{image}", self.frame * frames).replace("{question}", question)

    @property
    def glue(self) -> str:
        """Space between opening and stem: "ASSISTANT: The ..."."""
        before = self.text.partition("{stem}")[0]
        return before[len(before.rstrip(" ")) :]


def read_template(
    tokenizer: Any, template: str | None, options: Mapping[str, Any], image_token: str, where: str
) -> Layout | None:
    """The layout that a chat template produces, or None where there is no template.

    Raises:
        CheckpointError: when the template puts frames in a way that is not understood; `prompt` in the card helps.
    """
    if not template:
        return None

    def user(frames: int) -> dict[str, Any]:
        content = [*({"type": "image"} for _ in range(frames)), {"type": "text", "text": QUESTION}]
        return {"role": "user", "content": content}

    answer = {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}
    asked = [([user(1)], True), ([user(2)], True)]
    asked.append(([user(1), answer], False))
    one, two, closed = render_conversations(tokenizer, template, options, asked, where)
    frame = _unit(one, two, image_token)
    if frame is None or one.count(QUESTION) != 1:
        raise CheckpointError(
            f"{where}: cannot tell from the chat template where frames go (one: {one!r}, two: {two!r}); "
            "give the layout as `prompt` with {image}, {question} and {stem} in q_align.json"
        )
    # "Assistant:" is followed by a space, a new line or a special token is not
    glue = " " if one[-1:].isalnum() or one[-1:] in ":.!?" else ""
    text = one.replace(frame, "{image}").replace(QUESTION, "{question}") + glue + "{stem}"
    # what follows the assistant's words when the turn is over
    end = closed.rpartition(ANSWER)[2] if ANSWER in closed else ""
    return Layout(text, frame, end)


def _unit(one: str, two: str, token: str) -> str | None:
    """What the second frame adds to the prompt; the same text marks the first."""
    length, at = len(two) - len(one), one.find(token)
    if at < 0 or length < len(token):
        return None
    # the window that starts at the token, or as little before it as its markers need
    for start in range(at, max(-1, at + len(token) - length - 1), -1):
        piece = one[start : start + length]
        if one.count(piece) == 1 and one.replace(piece, piece * 2) == two:
            return piece
    return None
