"""Prompt layouts read off chat templates of many habits."""

from __future__ import annotations

import time

import pytest
from tiny_models import CHATML, GEMMA, IDEFICS, QWEN_IMAGE, THINKING, TINY, VICUNA, tokenizer_of

from q_align.errors import CheckpointError
from q_align.models.chat.prompt import Layout, read_template

QUIET = {"enable_thinking": False}


def read(template: str | None, placeholder: str, token: str, family: str = "qwen3_5") -> Layout | None:
    text = template and template.replace("IMAGE", placeholder)
    return read_template(tokenizer_of(TINY[family]), text, QUIET, token, "model")


@pytest.mark.parametrize(
    ("template", "placeholder", "text", "end"),
    [
        (
            CHATML,
            QWEN_IMAGE,
            "<|im_start|>user\n{image}{question}<|im_end|>\n<|im_start|>assistant\n{stem}",
            "<|im_end|>",
        ),
        (
            THINKING,
            QWEN_IMAGE,
            "<|im_start|>user\n{image}{question}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n{stem}",
            "<|im_end|>",
        ),
        (VICUNA, "<|image_pad|>", "USER: {image}{question} ASSISTANT: {stem}", ""),
        (
            IDEFICS,
            "<|image_pad|>",
            "<|im_start|>User:{image}{question}<end_of_utterance>\nAssistant: {stem}",
            "<end_of_utterance>",
        ),
        (
            GEMMA,
            "<|image_pad|>",
            "<start_of_turn>user\n{image}{question}<end_of_turn>\n<start_of_turn>model\n{stem}",
            "",
        ),
    ],
)
def test_layouts(template: str, placeholder: str, text: str, end: str) -> None:
    layout = read(template, placeholder, "<|image_pad|>")
    assert layout is not None
    assert layout.text == text
    assert layout.frame.strip() == placeholder
    assert layout.end.strip().startswith(end)


def test_frames_joined_by_something() -> None:
    """Numbered or comma-separated frames: what the second one adds is what each stands for."""
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}[<|image_pad|>] "
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}>"
    )
    layout = read(template, "", "<|image_pad|>")
    assert layout is not None
    assert layout.opening("Why?", 3) == "[<|image_pad|>] " * 3 + "Why?>"


def test_opening_and_glue() -> None:
    layout = Layout("USER: {image}{question} ASSISTANT: {stem}", "<image>")
    assert layout.opening("Good?", 2) == "USER: <image><image>Good? ASSISTANT:"
    assert layout.glue == " "
    assert Layout("{question}\n{stem}", "").glue == ""


def test_no_template() -> None:
    assert read(None, "", "<image>") is None


def test_a_template_that_numbers_frames_is_not_guessed_at() -> None:
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}{{ loop.index }}<|image_pad|>"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    with pytest.raises(CheckpointError, match=r"cannot tell from the chat template where frames go.*`prompt`"):
        read(template, "", "<|image_pad|>")


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        "{{ 'a' * 10**10 }}",
        "{{ 'a' * 10**6 }}",
    ],
)
def test_a_template_that_loops_or_grows_is_refused(template: str) -> None:
    begun = time.monotonic()
    with pytest.raises(CheckpointError, match=r"takes too|too long"):
        read(template, QWEN_IMAGE, "<|image_pad|>")
    assert time.monotonic() - begun < 60
