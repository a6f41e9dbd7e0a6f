"""Loads the processor of a transformers checkpoint, for frames and text only, with or without torchvision.

Images always go through the PIL classes: the same pixels on every machine, so that a score does not depend on whether
torchvision is installed where it was trained or where it runs. Video processors, which need torchvision, are left out:
videos are frames. Knows no prompts and no levels.
"""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

from q_align.errors import CheckpointError
from q_align.models.families import Family

# Small files that make a checkpoint loadable elsewhere; copied as they are into checkpoints trained from it.
FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)


def load_processor(folder: Path, family: Family, model_type: str) -> Any:
    """The checkpoint's processor with a left-padding tokenizer, and without a video part.

    Raises:
        CheckpointError: when the folder has no tokenizer or image processor, or transformers knows no processor for it.
    """
    import transformers
    from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    # programs in a model folder are never run, and nobody is asked whether they may be
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        record, options = ProcessorMixin.get_processor_dict(folder, local_files_only=True)
        name = family.chat.processor or record.get("processor_class") or PROCESSOR_MAPPING_NAMES.get(model_type)
        cls = getattr(transformers, name or "", None)
        if cls is None:
            raise CheckpointError(
                f"{folder}: transformers {transformers.__version__} has no processor class {name!r} for "
                f"{model_type!r}; a newer transformers may have it"
            )
        images = AutoImageProcessor.from_pretrained(folder, backend="pil", **local)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder}: no usable tokenizer and image processor ({reason})") from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    known = inspect.signature(cls.__init__).parameters
    options = {key: value for key, value in {**record, **options}.items() if key in known}
    options |= {"image_processor": images, "tokenizer": tokenizer}
    if "video_processor" in known:
        cls, options["video_processor"] = _without_video(cls), None
    return cls(**options)


def processor_files(folder: Path) -> dict[str, str]:
    """Texts of the checkpoint's processor files, to be written beside retrained weights."""
    return {name: (folder / name).read_text(encoding="utf-8") for name in FILES if (folder / name).is_file()}


@cache
def _without_video(cls: Any) -> Any:
    """A subclass of a processor class that takes None for its video processor."""

    class Frames(cls):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name == "video_processor" and argument is None:
                return None
            return super().check_argument_for_proper_class(argument_name, argument)

        def __reduce__(self) -> tuple[Any, ...]:
            # made at run time: pickled by the class that it wraps, for worker processes
            return _rebuild, (cls, self.__dict__)

    Frames.__name__ = cls.__name__
    return Frames


def _rebuild(cls: Any, state: dict[str, Any]) -> Any:
    frames = _without_video(cls)
    processor = frames.__new__(frames)
    processor.__dict__.update(state)
    return processor
