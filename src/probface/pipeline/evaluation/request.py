"""What is asked of an evaluation, whatever the protocol."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from probface.defaults import DEFAULT_MODEL
from probface.errors import InvalidValue
from probface.eval.protocols.cross_quality import Mixture
from probface.eval.protocols.templates import FIELD, TemplateFusion
from probface.eval.verification.options import JudgeOptions
from probface.pipeline.progress import Progress, silent
from probface.types import METRICS, Metric


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """An evaluation to be made.

    Attributes:
        data: the data set: a folder or file, as the protocol means it.
        out: the folder for ``results.json``, ``report.html`` and the exported faces.
        models: what is judged, each a name, an .onnx file or a training output folder.
        embeddings: ready embeddings that are judged beside the models.
        sigma_sq: the variance of ready embeddings that have none.
        metrics: the scores, that of comparison first; empty for cosine and the one that a model's variance is for.
        measures: a CSV file with further quality measures of the images.
        degrade: ``risk``: the mixture of degradations.
        max_images: ``risk``: so many images at most, of as many people as possible.
        fusion: ``ijb``, ``ijba``: how images become templates.
        trial_models: ``blufr``: a model for each trial, ``{}`` standing for its number, trained on its people.
        distractors: ``distractors``: other people's images, or a file of their embeddings.
        faces: keep the aligned faces, for the pictures of the report.
        aligned: the images are aligned faces already.
        missing: whether an image that the lists name and that is not there is an error, or left out with a note.
        force: judge people who trained the head, too, and say so.
        resume: go on with what an earlier, interrupted run exported.
        provider: where the network runs.
        judge: rates, resamples, groups.
        command: the command line, for the record.
        progress: called as the work goes on.
    """

    data: Path
    out: Path
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    embeddings: tuple[Path, ...] = ()
    sigma_sq: float | None = None
    metrics: tuple[Metric, ...] = ()
    measures: Path | None = None
    degrade: Mixture = "moderate"
    max_images: int = 2000
    fusion: TemplateFusion = FIELD
    trial_models: str | None = None
    distractors: Path | None = None
    faces: bool = True
    aligned: bool = False
    missing: Literal["error", "skip"] = "error"
    force: bool = False
    resume: bool = False
    provider: str = "cpu"
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    command: str = ""
    progress: Progress = silent

    def __post_init__(self) -> None:
        for name in ("models", "embeddings", "metrics"):
            value = getattr(self, name)
            if isinstance(value, str | os.PathLike):
                raise InvalidValue(f"{name} {value!r}: must be a row of them; write ({value!r},)")
            object.__setattr__(self, name, tuple(value))
        for name in ("data", "out", "measures", "distractors"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        object.__setattr__(self, "embeddings", tuple(map(Path, self.embeddings)))
        if not isinstance(self.judge, JudgeOptions):
            raise InvalidValue(f"judge {self.judge!r}: must be JudgeOptions")
        if self.missing not in ("error", "skip"):
            raise InvalidValue(f"missing {self.missing!r}: must be 'error' or 'skip'")
        if self.max_images < 2:
            raise InvalidValue(f"max_images {self.max_images}: must be 2 or more")
        if not self.models and not self.embeddings:
            raise InvalidValue("nothing to judge: name a model, or a file of embeddings")
        if len({*self.models}) + len({*self.embeddings}) != len(self.models) + len(self.embeddings):
            raise InvalidValue("a model or a file of embeddings is named twice: name each once")
        unknown = [metric for metric in self.metrics if metric not in METRICS]
        if unknown:
            raise InvalidValue(f"metric {unknown[0]!r}: must be one of {', '.join(METRICS)}")
