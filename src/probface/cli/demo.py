"""``probface demo``: two comparisons of public-domain portraits that installed packages carry."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

PORTRAITS = {
    "collins.png": ("skimage", "data/astronaut.png"),
    "hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
"""Eileen Collins and Grace Hopper, photographs of the United States government, in the public domain."""


def demo_command(
    out: Annotated[Path, typer.Option("--out", help="Folder for the photos and the pages.")] = Path("probface-demo"),
) -> int:
    """Compare portraits offline: one with a bad copy of itself, and two different people. Writes two pages.

    Example: probface demo --out demo
    """
    import numpy as np

    from probface.cli.verify import print_verification
    from probface.face.degrade import degrade
    from probface.face.image import encode_png, read_image
    from probface.pipeline.recogniser import Recogniser
    from probface.pipeline.verify import verify
    from probface.report.comparison import comparison_page, write_page
    from probface.storage import write_bytes

    for name, (package, place) in PORTRAITS.items():
        write_bytes(out / name, _carried(package, place))
    poor = degrade(read_image(out / "collins.png"), "resample", 0.6, np.random.default_rng(0))
    write_bytes(out / "collins-poor.png", encode_png(np.ascontiguousarray(poor[:, ::-1])))

    recogniser = Recogniser()
    for a, b, page in (
        ("collins.png", "collins-poor.png", "same-person.html"),
        ("collins.png", "hopper.jpg", "two-people.html"),
    ):
        answer = verify(out / a, out / b, model=recogniser)
        command = f"probface verify {out / a} {out / b} --report {out / page}"
        write_page(comparison_page(answer, recogniser.contract, command=command), out / page)
        print(command)
        print_verification(answer)
        print(f"  page: {out / page}\n")
    return 0


def _carried(package: str, place: str) -> bytes:
    from probface.errors import MissingExtra

    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / place if spec is not None and spec.origin is not None else None
    if path is None or not path.is_file():
        raise MissingExtra(f"the portrait {place} of {package} is not there; pip install 'probface[demo]'")
    return path.read_bytes()
