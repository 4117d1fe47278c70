"""Every accuracy figure of the README and docs/evidence.md, from LFW, with intervals over people.

    python benchmarks/lfw_evidence.py --data LFW [--model MODEL_FOLDER] [--ablation FOLDER ...] --out docs/evidence.md

LFW is the folder with people.txt, pairs.txt and the deep-funneled images; MODEL_FOLDER and each FOLDER are what
``probface train head`` wrote. Without MODEL_FOLDER the head shipped in the package is judged.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from string import Template

import numpy as np

import blufr_heads
import risk_control
import template_fusion
from lfw_cross import DISCARD, FMRS, RESAMPLES, Cross, pair_errors, sampled, score_of
from lfw_judge import JUDGE_FOLDS, Judge, State, trained_head
from markdown_tables import percent, plain, table
from paper_claims import claims_section
from probface.eval.metrics.bootstrap import difference, ratio
from probface.eval.metrics.verification import kfold_accuracy
from probface.eval.metrics.weighted import DiscardAuc
from probface.face.degrade import KINDS
from probface.models.head_weights import HeadWeights, load_head
from probface.models.weights import writable_cache_folder
from probface.score.cosine import cosine
from probface.storage import write_bytes
from probface.train.config import read_recipe
from template_fusion import Gallery
from threshold_promise import promise_section

RECIPE = Path(__file__).parents[1] / "recipes" / "sface.toml"
LADDER_IMAGES = 500
STEPS = (0.2, 0.4, 0.6, 0.8, 1.0)


def cross_section(cross: Cross, head: HeadWeights, *, factor: bool) -> str:
    cos, ours = (sampled(cross.tmr(cross.scores(head, metric)), cross.judge) for metric in ("cosine", score_of(head)))
    gain = ratio(ours, cos) if factor else difference(ours, cos)
    rows = [
        [f"{fmr:g}", percent(c), percent(o), plain(g) if factor else percent(g)]
        for fmr, c, o, g in zip(FMRS, cos.intervals(), ours.intervals(), gain.intervals(), strict=True)
    ]
    last = "FastMLS / cosine" if factor else "FastMLS - cosine, points"
    return table(["FMR", "cosine TMR %", "FastMLS TMR %", last], rows)


def pairs_section(judge: Judge, head: HeadWeights) -> str:
    rows, draws = [], judge.draws
    for label, states in (("clean", [judge.clean]), (f"degraded, mean of {len(draws)} draws", draws)):
        cos, ours = (sampled(pair_errors(judge, head, metric, states), judge) for metric in ("cosine", score_of(head)))
        points = difference(cos, ours).intervals()[0]
        # On clean pairs cosine makes a handful of errors, in some resamples none: no ratio there.
        fewer = plain(ratio(ours, cos).intervals()[0]) if states is draws else "-"
        rows.append([label, percent(cos.intervals()[0], 2), percent(ours.intervals()[0], 2), fewer, percent(points, 2)])
    header = ["pairs", "cosine errors %", "FastMLS errors %", "FastMLS / cosine", "accuracy gained, points"]
    return table(header, rows)


def discard_section(cross: Cross, name: str, head: HeadWeights) -> str:
    judge, embeddings = cross.judge, cross.embeddings(head)
    cos = cross.scores(head, "cosine")
    impostors = cross.impostors(cos)
    qualities = {
        "sigma^2": -np.log(embeddings.sigma_sq.sum(axis=1, dtype=np.float64)),
        "embedding norm": np.concatenate([cross.clean.norm, cross.other.norm]),
        "Laplacian sharpness": np.concatenate([judge.sharpness("clean"), judge.sharpness(name)]),
        "detector score": np.concatenate([judge.detector_score("clean"), judge.detector_score(name)]),
    }
    curves = {label: cross.discard(cos, impostors, quality) for label, quality in qualities.items()}
    areas = {label: sampled(DiscardAuc(curve), judge) for label, curve in curves.items()}
    shown = [int(np.argmin(abs(DISCARD - share))) for share in (0, 0.05, 0.1, 0.2, 0.3)]
    rows = []
    for label, curve in curves.items():
        fnmr = curve(np.ones(judge.people, np.int64))
        against = plain(ratio(areas["sigma^2"], areas[label]).intervals()[0], 3) if label != "sigma^2" else ""
        area = plain(areas[label].intervals()[0], 5)
        rows.append([label, *(f"{100 * fnmr[place]:.2f}" for place in shown), area, against])
    header = ["rejected by", "0 %", "5 %", "10 %", "20 %", "30 %", "partial AUC", "sigma^2 / this"]
    return table(header, rows)


def ladder_section(judge: Judge, head: HeadWeights) -> str:
    count = min(LADDER_IMAGES, len(judge.faces.names))

    def median(state: State) -> float:
        return float(np.median(state.embeddings(head).sigma_sq[:count].sum(axis=1)))

    rows = []
    for kind in KINDS:
        medians = [median(judge.clean), *(median(judge.ladder(kind, strength, count)) for strength in STEPS)]
        rising = "yes" if (np.diff(medians) > 0).all() else "NO"
        rows.append([kind, *(f"{value:.3f}" for value in medians), rising])
    return table(["kind", "clean", *(f"{strength:g}" for strength in STEPS), "strictly rising"], rows)


def ablation_section(judge: Judge, heads: dict[str, HeadWeights]) -> list[list[str]]:
    """A row for each head; all of them read the judge's fused vector, or the embedding at its end."""
    crosses = [Cross.of(judge, name) for name in ("moderate", "extreme")]
    everyone = np.ones(judge.people, np.int64)
    rows = []
    for label, head in heads.items():
        metric = score_of(head)
        cells = [label]
        for cross in crosses:
            tmr = cross.tmr(cross.scores(head, metric))(everyone)
            cells.append(" / ".join(f"{100 * value:.1f}" for value in tmr))
        errors = {
            (name, m): float(pair_errors(judge, head, m, states)(everyone)[0])
            for name, states in (("degraded", judge.draws), ("clean", [judge.clean]))
            for m in ("cosine", metric)
        }
        cells.append(f"{errors['degraded', metric] / errors['degraded', 'cosine']:.3f}")
        cells.append(f"{100 * (errors['clean', 'cosine'] - errors['clean', metric]):+.2f}")
        rows.append(cells)
    return rows


ABLATION_HEADER = [
    "head",
    "TMR %, clean and moderate",
    "TMR %, clean and extreme",
    "degraded errors / cosine's",
    "clean accuracy gained",
]


def lfw_accuracy(judge: Judge) -> str:
    faces = judge.faces_of(judge.all_pairs)
    place = {name: row for row, name in enumerate(faces.names)}
    mu = judge.state_of(faces, "clean").mu
    scores = cosine(mu[[place[p.a] for p in judge.all_pairs]], mu[[place[p.b] for p in judge.all_pairs]])
    labels = np.array([pair.genuine for pair in judge.all_pairs])
    result = kfold_accuracy(scores, labels, np.array([pair.fold for pair in judge.all_pairs]))
    return (
        f"{100 * result.mean:.2f} % (standard error {100 * result.standard_error:.2f}), {len(labels)} pairs, 10 folds"
    )


def page(judge: Judge, heads: dict[str, HeadWeights], ablation: list[list[str]], blufr: str, gallery: Gallery) -> str:
    head = heads["shipped"]
    moderate, extreme = crosses = (Cross.of(judge, "moderate"), Cross.of(judge, "extreme"))
    images, genuine = len(judge.faces.names), int(moderate.pairs.genuine.sum())
    impostor = len(moderate.pairs.genuine) - genuine
    risk_accuracy, risk_fixed = risk_control.sections(judge, head)
    fusion, choice, sizes, one_threshold = template_fusion.sections(gallery)
    values = {
        "folds": ", ".join(map(str, JUDGE_FOLDS)),
        "images": f"{images:,}",
        "people": f"{judge.people:,}",
        "pairs": f"{len(judge.pairs):,}",
        "genuine": f"{genuine:,}",
        "impostor": f"{impostor:,}",
        "all_images": f"{len(gallery.copies['clean'].clean):,}",
        "all_people": f"{gallery.people:,}",
        "trained_on": head.contract.trained_on,
        "resamples": str(RESAMPLES),
        "claims": claims_section(judge, crosses, heads),
        "moderate": cross_section(moderate, head, factor=False),
        "extreme": cross_section(extreme, head, factor=True),
        "pair_table": pairs_section(judge, head),
        "promise_moderate": promise_section(moderate, head),
        "promise_extreme": promise_section(extreme, head),
        "risk_accuracy": risk_accuracy,
        "risk_fixed": risk_fixed,
        "discard_moderate": discard_section(moderate, "moderate", head),
        "discard_extreme": discard_section(extreme, "extreme", head),
        "fusion": fusion,
        "choice": choice,
        "sizes": sizes,
        "one_threshold": one_threshold,
        "blufr": blufr,
        "ladder": ladder_section(judge, head),
        "ablation": table(ABLATION_HEADER, ablation),
        "lfw": lfw_accuracy(judge),
    }
    text = (Path(__file__).parent / "lfw_evidence.md").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="LFW: people.txt, pairs.txt and the images")
    parser.add_argument("--model", type=Path, help="a training output folder; the shipped head if not given")
    parser.add_argument("--ablation", type=Path, nargs="*", default=[], help="training output folders to compare")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="of the heads that BLUFR trains, one a trial")
    parser.add_argument("--cache", type=Path, help="folder of cached features")
    parser.add_argument("--out", type=Path, required=True, help="the page to write")
    options = parser.parse_args()
    cache = options.cache or writable_cache_folder() / "train"
    head = trained_head(options.model)
    heads = {folder.name: load_head(folder / "head.safetensors") for folder in options.ablation}
    wide = {name: one for name, one in heads.items() if one.contract.features[0].startswith("flatten:")}
    heads = {"shipped": head, **{name: one for name, one in heads.items() if name not in wide}}
    judge = Judge(options.data, cache)
    ablation = ablation_section(judge, heads)
    if wide:
        ablation += ablation_section(Judge(options.data, cache, flatten_last=True), wide)
    blufr = blufr_heads.section(options.data, cache, read_recipe(options.recipe))
    gallery = template_fusion.Gallery.of(judge, options.data, head)
    write_bytes(options.out, page(judge, heads, ablation, blufr, gallery).encode())


if __name__ == "__main__":
    main()
