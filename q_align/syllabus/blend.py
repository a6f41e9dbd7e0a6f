"""Several syllabuses at once: a weighted sum, with every part still visible by name.

Knows tensors only.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from q_align.syllabus.base import Prediction, Syllabus, Targets


def blend(syllabuses: Mapping[str, Syllabus], weights: Mapping[str, float]) -> Syllabus:
    """The weighted terms of all syllabuses; their sum is what is minimised.

    Args:
        syllabuses: name -> syllabus.
        weights: name -> factor of all its terms.
    """

    def blended(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        return {
            term: weights[name] * value
            for name, syllabus in syllabuses.items()
            for term, value in syllabus(prediction, targets).items()
        }

    return blended
