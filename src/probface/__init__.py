"""ProbFace: face embeddings that know when they are unsure.

A face image becomes a Gaussian: a unit mean ``mu`` and an uncertainty ``sigma_sq``. The names below are the public
ones; they load their rooms when they are first used, so that ``import probface`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probface.contract import InputSpec, ModelContract
    from probface.errors import ProbFaceError
    from probface.export.one_file import export_model
    from probface.face.degrade import degrade
    from probface.gallery.exchange import export_gallery
    from probface.gallery.fusion import fuse
    from probface.gallery.gallery import Gallery
    from probface.match.exact import SearchIndex, top_k
    from probface.models.registry import list_models, show_model
    from probface.pipeline.calibrate import calibrate_model
    from probface.pipeline.detect import detect
    from probface.pipeline.embed import embed
    from probface.pipeline.embedding_file import read_embeddings
    from probface.pipeline.enroll import enroll
    from probface.pipeline.evaluation.evaluate import evaluate
    from probface.pipeline.gallery_import import import_gallery
    from probface.pipeline.gallery_migration import migrate_gallery
    from probface.pipeline.identify import identify
    from probface.pipeline.recogniser import Recogniser
    from probface.pipeline.score_files import score_files
    from probface.pipeline.verify import verify
    from probface.report.comparison import comparison_page
    from probface.score.calibration import threshold_at_fmr
    from probface.score.cosine import cosine, cosine_matrix
    from probface.score.fast_mls import fast_mls, fast_mls_matrix
    from probface.score.mls import mls, mls_matrix
    from probface.score.quality import quality
    from probface.train.backbone import train_backbone
    from probface.train.convert import convert_tf1
    from probface.train.head import train_head
    from probface.types import EmbeddedFace, Embeddings, Face, Verification

__version__ = "0.1.0"

_HOMES = {
    "EmbeddedFace": "types",
    "Embeddings": "types",
    "Face": "types",
    "Gallery": "gallery.gallery",
    "InputSpec": "contract",
    "ModelContract": "contract",
    "ProbFaceError": "errors",
    "Recogniser": "pipeline.recogniser",
    "SearchIndex": "match.exact",
    "Verification": "types",
    "calibrate_model": "pipeline.calibrate",
    "comparison_page": "report.comparison",
    "convert_tf1": "train.convert",
    "cosine": "score.cosine",
    "cosine_matrix": "score.cosine",
    "degrade": "face.degrade",
    "detect": "pipeline.detect",
    "embed": "pipeline.embed",
    "enroll": "pipeline.enroll",
    "evaluate": "pipeline.evaluation.evaluate",
    "export_gallery": "gallery.exchange",
    "export_model": "export.one_file",
    "fast_mls": "score.fast_mls",
    "fast_mls_matrix": "score.fast_mls",
    "fuse": "gallery.fusion",
    "identify": "pipeline.identify",
    "import_gallery": "pipeline.gallery_import",
    "list_models": "models.registry",
    "migrate_gallery": "pipeline.gallery_migration",
    "mls": "score.mls",
    "mls_matrix": "score.mls",
    "quality": "score.quality",
    "read_embeddings": "pipeline.embedding_file",
    "score_files": "pipeline.score_files",
    "show_model": "models.registry",
    "threshold_at_fmr": "score.calibration",
    "top_k": "match.exact",
    "train_backbone": "train.backbone",
    "train_head": "train.head",
    "verify": "pipeline.verify",
}

__all__ = [
    "EmbeddedFace",
    "Embeddings",
    "Face",
    "Gallery",
    "InputSpec",
    "ModelContract",
    "ProbFaceError",
    "Recogniser",
    "SearchIndex",
    "Verification",
    "calibrate_model",
    "comparison_page",
    "convert_tf1",
    "cosine",
    "cosine_matrix",
    "degrade",
    "detect",
    "embed",
    "enroll",
    "evaluate",
    "export_gallery",
    "export_model",
    "fast_mls",
    "fast_mls_matrix",
    "fuse",
    "identify",
    "import_gallery",
    "list_models",
    "migrate_gallery",
    "mls",
    "mls_matrix",
    "quality",
    "read_embeddings",
    "score_files",
    "show_model",
    "threshold_at_fmr",
    "top_k",
    "train_backbone",
    "train_head",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'probface' has no attribute {name!r}; see probface.__all__")
    value = getattr(import_module(f"probface.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
