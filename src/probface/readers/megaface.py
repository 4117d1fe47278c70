"""MegaFace's lists: probe faces with their people, and distractors; both as JSON, with the field's lists of noise.

    facescrub_features_list.json            {"id": ["Adam Brody", ...], "path": ["Adam Brody/Adam_Brody_1.png", ...]}
    megaface_features_list.json_100_1       {"path": ["63/10063123@N03_identity_1/3484_0.jpg", ...]}, set 1 of 100
    facescrub_noises.txt                    a file name a line; # begins a comment
    megaface_noises.txt                     a path a line, or a number, a tab and a path

Distractors may have an ``id``, too. In FaceScrub's names some copies have blanks where others have underscores: the
lists of noise match either.

Noise is left out on both sides. insightface's ``remove_noises.py`` keeps the counts: it puts the centre of the class in
the place of a noisy probe, which makes an easy probe and an easy mate of it, and moves a noisy distractor away from all
faces. Here there are fewer searches, and the last number of distractors is smaller than that of the list.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from probface.errors import DataError


@dataclass(frozen=True, slots=True)
class FeatureList:
    """Images of a list, in its order.

    Attributes:
        paths: of the images, each once, as the list writes them; embeddings are named so.
        people: who is on each, as the list's ``id`` says; empty where it does not tell.
        noise: how many entries were left out because a list of noise names them.
    """

    paths: tuple[str, ...]
    people: tuple[str, ...] = ()
    noise: int = 0

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class MegaFace:
    """Probes, of whom everyone has two images or more for the protocol to count them, and distractors."""

    probes: FeatureList
    distractors: FeatureList


def read_megaface(
    probes: Path, distractors: Path, *, probe_noise: Path | None = None, distractor_noise: Path | None = None
) -> MegaFace:
    """Read the lists of the protocol.

    Args:
        probes: ``facescrub_features_list.json``; must tell who is on the images.
        distractors: ``megaface_features_list.json_..._1``.
        probe_noise: ``facescrub_noises.txt``, images to leave out.
        distractor_noise: ``megaface_noises.txt``.

    Raises:
        DataError: a list cannot be read, breaks its format or names an image twice, a list of noise matches nothing,
            the probes' people are not told, or a distractor is a probe or shows one of the probes' people.
    """
    searched = _read(probes, probe_noise, _folded_name)
    if not searched.people:
        raise DataError(
            f"{probes}: no 'id' beside 'path'; the protocol must know who is on a probe, add the list of ids"
        )
    others = _read(distractors, distractor_noise, _last_folders)
    shared = frozenset(searched.paths).intersection(others.paths)
    if shared:
        raise DataError(
            f"{distractors}: {min(shared)!r} is a probe in {probes.name}, too ({len(shared)} such images); a "
            "distractor must be nobody's mate, remove it from one of the lists"
        )
    people = frozenset(searched.people).intersection(others.people)
    if people:
        raise DataError(
            f"{distractors}: {min(people)!r} is one of the probes' people in {probes.name}, too ({len(people)} such "
            "people); a distractor must be nobody's mate, remove them from one of the lists"
        )
    return MegaFace(searched, others)


def _read(path: Path, noise: Path | None, key: Callable[[str], str]) -> FeatureList:
    paths, people = _entries(path)
    first: dict[str, int] = {}
    for number, name in enumerate(paths, start=1):
        if first.setdefault(name, number) != number:
            raise DataError(
                f"{path}, entry {number}: {name!r} is entry {first[name]} already; remove one of the two entries"
            )
    if noise is None:
        return FeatureList(paths, people)
    bad = frozenset(map(key, _noise(noise)))
    keep = [key(name) not in bad for name in paths]
    if all(keep):
        raise DataError(f"{noise}: names none of the {len(paths)} images of {path.name}; give the noise of that list")
    if not any(keep):
        raise DataError(f"{noise}: names all of the {len(paths)} images of {path.name}; give the noise of that list")
    kept_people = tuple(person for person, stays in zip(people, keep, strict=True) if stays) if people else ()
    kept = tuple(name for name, stays in zip(paths, keep, strict=True) if stays)
    return FeatureList(kept, kept_people, len(paths) - len(kept))


def _entries(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths and people; the second is empty where the list has no ids."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable list") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); get a complete copy of the list"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: no JSON text in UTF-8 ({error}); get a complete copy of the list") from error
    except ValueError as error:  # the one other kind: Python's limit on the digits of a number
        raise DataError(
            f"{path}: has a number of more than {sys.get_int_max_str_digits()} digits; write ids as names or short "
            "numbers"
        ) from error
    paths = content.get("path") if isinstance(content, dict) else None
    if not isinstance(paths, list) or not paths or not all(isinstance(name, str) and name for name in paths):
        raise DataError(f"{path}: expected an object whose 'path' is a list of file names; get a copy of the list")
    people = content.get("id", [])
    if not isinstance(people, list) or not all(isinstance(person, str | int) for person in people):
        raise DataError(f"{path}: 'id' must be a list of names or numbers; correct the list")
    if people and len(people) != len(paths):
        raise DataError(f"{path}: {len(people)} ids for {len(paths)} paths; need one for each, get a complete copy")
    return tuple(paths), tuple(map(str, people))


def _noise(path: Path) -> Sequence[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable list") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error}); get a complete copy of the list") from error
    texts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [text.split("\t")[1] if "\t" in text else text for text in texts]


def _folded_name(path: str) -> str:
    """FaceScrub: the file's name alone."""
    return path.rsplit("/", 1)[-1].replace(" ", "_")


def _last_folders(path: str) -> str:
    """MegaFace: the file and the two folders that it is in."""
    return "/".join(path.split("/")[-3:])
