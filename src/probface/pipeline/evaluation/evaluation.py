"""What an evaluation gives back: the results, and the faces that its page may show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from probface.eval.results import Results
from probface.report.evaluation import evaluation_page
from probface.storage import write_bytes
from probface.types import Image

RESULTS, REPORT = "results.json", "report.html"


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Results with pictures.

    Attributes:
        results: all that was found.
        picture: the aligned face of an image; None where no faces were kept.
    """

    results: Results
    picture: Callable[[str], Image | None] | None = None

    def write(self, folder: Path) -> None:
        """Write ``results.json`` and ``report.html``, each whole or not at all.

        Raises:
            StorageError: the folder cannot be written.
        """
        page = evaluation_page(self.results, pictures=self.picture)
        write_bytes(folder / RESULTS, (self.results.to_json() + "\n").encode())
        write_bytes(folder / REPORT, page.encode())
