"""Results of a made-up evaluation, as rich as a real one: drawn scores, measured with plain numpy."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.data import astronaut

from probface.eval.results import (
    Chart,
    ChartAxis,
    Figure,
    LadderFace,
    MeasuredThreshold,
    Provenance,
    Results,
    Section,
    Series,
    System,
    WorstError,
)

SYSTEMS = (
    System("fastmls", "ProbFace, FastMLS", "probface-sface", "ab" * 32, "fastmls", "LFW folds 1 to 6", 1200),
    System("cosine", "ProbFace, cosine", "probface-sface", "ab" * 32, "cosine", "LFW folds 1 to 6", 1200),
    System("other", "Yours & <theirs>", "embeddings of 'yours.npz'", "", "cosine"),
)
RATES = (1e-2, 1e-3, 1e-4, 1e-5)
TOO_FEW = "insufficient data: 1,000,000 comparisons of different people are needed"
SEPARATION = {"fastmls": 5.2, "cosine": 4.8, "other": 4.3}


def scores(key: str) -> tuple[np.ndarray, np.ndarray]:
    """(3000,) genuine and (200000,) impostor scores."""
    rng = np.random.default_rng(len(key))
    return rng.normal(SEPARATION[key] - 6, 0.9, 3000), rng.normal(-6, 1, 200_000)


def curves() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """FMR (rising), TMR and thresholds of each system, 160 points evenly over the logarithm."""
    found = {}
    for key in SEPARATION:
        genuine, impostor = scores(key)
        rates = np.geomspace(1e-5, 1, 160)
        thresholds = np.quantile(impostor, 1 - rates)
        found[key] = rates, np.array([(genuine > t).mean() for t in thresholds]), thresholds
    return found


def line(label: str, x: np.ndarray, y: np.ndarray, key: str = "") -> Series:
    return Series(label, tuple(float(v) for v in x), tuple(float(v) for v in y), key)


def verification() -> Section:
    figures, roc, det = [], [], []
    labels = {system.key: system.label for system in SYSTEMS}
    tmr = {key: np.interp(RATES, rates, shares) for key, (rates, shares, _) in curves().items()}
    for key, (rates, shares, _) in curves().items():
        roc.append(line(labels[key], rates, shares, key))
        det.append(line(labels[key], rates, 1 - shares, key))
        for place, fmr in enumerate(RATES):
            if fmr < 1e-4:
                figures.append(
                    Figure("TMR", key, None, at={"fmr": fmr}, better="higher", genuine=3000, impostor=200_000,
                           note="insufficient data: 200,000 comparisons of different people, 1,000,000 needed")
                )  # fmt: skip
                continue
            value, half = float(tmr[key][place]), 0.004 * (place + 1)
            figures.append(
                Figure("TMR", key, value, max(0, value - half), min(1, value + half), {"fmr": fmr}, better="higher",
                       genuine=3000, impostor=200_000)
            )  # fmt: skip
            if key != "fastmls":
                ahead = float(tmr["fastmls"][place]) - value
                figures.append(
                    Figure("TMR", "fastmls", ahead, ahead - 0.02, ahead + 0.02, {"fmr": fmr}, better="higher",
                           relation="difference", against=key)
                )  # fmt: skip
        figures.append(Figure("EER", key, 0.0113, 0.0101, 0.0127, better="lower", genuine=3000, impostor=200_000))
        figures.append(Figure("accuracy", key, 0.9938, 0.9921, 0.9953, better="higher", genuine=3000, impostor=3000))
    figures.append(Figure("EER", "fastmls", 0.82, 0.71, 0.94, better="lower", relation="ratio", against="other"))
    fmr = ChartAxis("FMR", "log", percent=True)
    charts = (
        Chart("roc", "ROC", "The higher, the better.", fmr, ChartAxis("TMR", percent=True), tuple(roc)),
        Chart("det", "DET", "The lower, the better.", fmr, ChartAxis("FNMR", "log", percent=True), tuple(det)),
    )
    return Section("One to one", "Every pair of images, decided by each system.", tuple(figures), charts)


def risk() -> Section:
    x = np.linspace(0, 0.3, 31)
    edc = (
        line("σ² of ProbFace", x, 0.031 * np.exp(-9 * x), "fastmls"),
        line("detector score", x, 0.031 * np.exp(-3 * x), "fastmls"),
        line("sharpness", x, 0.031 * np.exp(-2 * x) + 0.002 * np.sin(20 * x), "fastmls"),
        line("no quality", x, np.full(31, 0.031)),
    )
    kept = np.array([0, 0.1, 0.2, 0.3])
    accuracy = (
        line("ProbFace, FastMLS", kept, np.array([0.9841, 0.9862, 0.9887, 0.9901]), "fastmls"),
        line("ProbFace, cosine", kept, np.array([0.9804, 0.9833, 0.985, 0.9861]), "cosine"),
    )
    figures = tuple(
        Figure("pAUC of the EDC", "fastmls", value, value - 4e-4, value + 4e-4, {"fmr": 1e-3, "discarded": 0.3}, by,
               "area", "lower")
        for by, value in (("σ² of ProbFace", 0.0031), ("detector score", 0.0061), ("sharpness", 0.0072))
    )  # fmt: skip
    share = ChartAxis("comparisons set aside", percent=True)
    charts = (
        Chart("edc", "Error versus discard at FMR 0.1 %", "The sooner it falls, the better the quality measure.", share,
              ChartAxis("FNMR", percent=True), edc),
        Chart("risk", "Risk-controlled accuracy", "The threshold is refitted on what is kept.", share,
              ChartAxis("accuracy", percent=True), accuracy),
    )  # fmt: skip
    return Section("Does the doubt know where the errors are?", "", figures, charts)


def identification() -> Section:
    ranks = np.arange(1, 21)
    cmc = tuple(line(s.label, ranks, 1 - 0.04 * (k + 1) / ranks**0.5, s.key) for k, s in enumerate(SYSTEMS))
    rates = np.geomspace(1e-3, 1, 60)
    direct = tuple(line(s.label, rates, 0.97 - 0.05 * k - 0.03 * np.log10(1 / rates), s.key)
                   for k, s in enumerate(SYSTEMS))  # fmt: skip
    sizes = np.array([10, 100, 1e3, 1e4, 1e5, 1e6])
    many = tuple(line(s.label, sizes, 0.995 - 0.012 * (k + 1) * np.log10(sizes), s.key) for k, s in enumerate(SYSTEMS))
    figures = tuple(
        Figure("FNIR", s.key, 0.05 + 0.02 * k, 0.04 + 0.02 * k, 0.06 + 0.02 * k, {"fpir": 0.01, "gallery": 1680.0},
               better="lower", genuine=4903, impostor=4069)
        for k, s in enumerate(SYSTEMS)
    )  # fmt: skip
    share = ChartAxis("rate", percent=True)
    charts = (
        Chart("cmc", "CMC", "The share found within so many best.", ChartAxis("rank"), share, cmc),
        Chart("dir", "DIR at FPIR", "Found, first, and above the threshold.", ChartAxis("FPIR", "log", True), share,
              direct),
        Chart("distractors", "Among distractors", "Rank 1 with so many strangers enrolled.",
              ChartAxis("enrolled", "log"), share, many),
    )  # fmt: skip
    return Section("One among many", "Open-set search; a person who is not enrolled must get no name.", figures, charts)


def calibration() -> Section:
    bins = np.linspace(-9, 2, 40)
    genuine, impostor = scores("fastmls")
    shares = [np.histogram(s, np.append(bins, bins[-1] + bins[1] - bins[0]))[0] / len(s) for s in (impostor, genuine)]
    said = np.linspace(0.05, 0.95, 10)
    figures = tuple(
        Figure("Cllr", s.key, 0.041 + 0.01 * k, 0.036 + 0.01 * k, 0.046 + 0.01 * k, unit="bits", better="lower",
               genuine=3000, impostor=200_000)
        for k, s in enumerate(SYSTEMS)
    )  # fmt: skip
    charts = (
        Chart("histogram", "Scores", "Left: different people. Right: one person.", ChartAxis("FastMLS"),
              ChartAxis("share", percent=True), (line("different people", bins, shares[0]),
                                                 line("one person", bins, shares[1]))),
        Chart("reliability", "Reliability", "On the diagonal, a probability is what it says.",
              ChartAxis("said", percent=True), ChartAxis("found", percent=True),
              (line("ProbFace, FastMLS", said, said**1.2, "fastmls"), line("perfect", said, said))),
    )  # fmt: skip
    return Section("Scores as evidence", "", figures, charts)


def thresholds() -> tuple[MeasuredThreshold, ...]:
    rows = []
    for key, (rates, shares, cuts) in curves().items():
        for fmr in RATES:
            if fmr < 1e-4:
                rows.append(MeasuredThreshold(key, fmr, None, None, None, None, 200_000, 0,
                                              TOO_FEW))  # fmt: skip
                continue
            cut = float(np.interp(fmr, rates, cuts))
            matched = int((scores(key)[1] > cut).sum())
            rows.append(MeasuredThreshold(key, fmr, cut, 0.6 * fmr, 1.55 * fmr, float(np.interp(fmr, rates, shares)),
                                          200_000, matched))  # fmt: skip
    return tuple(rows)


def evaluation() -> Results:
    """All parts of a page; names of images are those of :func:`face`."""
    variances = np.geomspace(0.11, 1.4, 14)
    ladder = tuple(
        LadderFace(f"person_{n:02d}/photo_{n:04d}.jpg", float(v), round(95 - 6.5 * n)) for n, v in enumerate(variances)
    )
    errors = tuple(
        WorstError(kind, "fastmls", f"person_{n:02d}/photo_{n:04d}.jpg", f"person_{n + 2:02d}/photo_{n + 2:04d}.jpg",
                   -1.9 + 0.3 * n * sign, -2.88, 1e-3, 0.52 + sign * 0.1, float(variances[n]), float(variances[n + 2]))
        for kind, sign in (("false match", 1), ("false non-match", -4)) for n in (1, 4, 8, 11)
    )  # fmt: skip
    return Results(
        "lfw",
        "How well does probface-sface recognise faces?",
        (
            "At a false-match rate of 0.1 %, FastMLS recognises 98.7 % of the pairs of one person; the cosine, 97.2 %.",
            "Setting the tenth of the comparisons aside of which the network is least sure halves the misses.",
            "For a false-match rate of 0.001 % there are too few comparisons: no threshold is given.",
        ),
        SYSTEMS,
        (verification(), risk(), identification(), calibration()),
        Provenance(
            "0.2.0", "probface evaluate lfw --model sface --data 'my <photos>' --out results", "2025-05-04T10:20:30Z",
            "LFW, deep-funneled", "cd" * 32, 13_233, 3, 5749, 3000, 200_000, 1000, 0.95, 7,
        ),
        thresholds(),
        ladder,
        errors,
        ("3 images have no face that was found; their comparisons are left out.",
         "1,200 comparisons are left out for ProbFace: their people trained the uncertainty head."),
    )  # fmt: skip


def face(name: str) -> np.ndarray:
    """(112, 112, 3): a public-domain portrait, blurred and darkened the more, the higher its number."""
    number = int(name.split("/")[0].removeprefix("person_"))
    crop = cv2.resize(astronaut()[60:172, 168:280], (112, 112))
    crop = crop[:, ::-1] if number % 2 else crop
    soft = cv2.GaussianBlur(np.ascontiguousarray(crop), (0, 0), 0.2 + 0.4 * number)
    noise = np.random.default_rng(number).normal(0, 1 + number, soft.shape)
    return np.clip(soft * (1 - 0.03 * number) + noise, 0, 255).astype(np.uint8)
