"""What a small network trained from nothing on LFW reaches on people it never saw, and what its head adds.

    probface train backbone --data LFW --recipe recipes/backbones/resface20-half.toml --out out/resface20
    probface train head --backbone out/resface20 --data LFW --recipe recipes/resface20-head.toml --out out/head
    python benchmarks/from_scratch.py --data LFW --backbone out/resface20 --head out/head

People of folds 1 to 7 trained both; people of folds 8 to 10 judge. It shows that the whole road works, not that the
network is strong: 5,800 images are a thousandth of what recognition networks are trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lfw_evidence import Cross, cross_section, pairs_section
from lfw_judge import JUDGE_FOLDS, Judge
from probface.models.head_weights import load_head
from probface.models.weights import writable_cache_folder


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--head", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=JUDGE_FOLDS, help="whose people judge")
    parser.add_argument("--cache", type=Path, default=None)
    options = parser.parse_args()
    head = load_head(options.head / "head.safetensors")
    flatten = head.contract.features[0].startswith("flatten:")
    cache = options.cache or writable_cache_folder() / "train"
    judge = Judge(options.data, cache, flatten_last=flatten, backbone=options.backbone, folds=tuple(options.folds))
    images = len(judge.faces.names)
    print(f"{images} images of {judge.people} people, {len(judge.pairs)} pairs; 95 % intervals over people\n")
    print(pairs_section(judge, head))
    for other in ("moderate", "extreme"):
        cross = Cross.of(judge, other)
        print(f"\nAll {len(cross.pairs.genuine)} cross pairs, each image clean and {other}:\n")
        print(cross_section(cross, head, factor=other == "extreme"))


if __name__ == "__main__":
    main()
