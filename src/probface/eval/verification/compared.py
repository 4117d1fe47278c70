"""What the later systems have more than the first, on the comparisons that both are judged by."""

from __future__ import annotations

import dataclasses

from probface.eval.metrics.bootstrap import difference
from probface.eval.results import Figure, Section
from probface.eval.verification.operating_points import rates
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate, figure, insufficient
from probface.eval.verification.trial import Selection, Selections, Trial

TEXT = (
    "Every later system less the first, on the comparisons that both are judged by. The intervals are of the "
    "difference: both systems saw the same resamples."
)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rated:
    """A trial with its rates."""

    trial: Trial
    rates: list[Rate]

    @classmethod
    def of(cls, trial: Trial, options: JudgeOptions) -> Rated:
        """Measure them."""
        return cls(trial, rates(trial, options))

    def on(self, selection: Selection, options: JudgeOptions) -> Rated:
        """The same system on other comparisons."""
        if self.trial.selection is selection:
            return self
        return Rated.of(Trial.of(self.trial.candidate, selection), options)


def compared_section(rated: list[Rated], selections: Selections, options: JudgeOptions) -> Section:
    """Every system after the first.

    Where the two are not judged by the same comparisons, because people trained the one and not the other, the rows of
    both on the common ones come before the difference, and say so. Where they have no comparisons of one kind in
    common, the differences have no value, and say why.
    """
    first, figures = rated[0], list[Figure]()
    for later in rated[1:]:
        labels = f"{first.trial.label} and {later.trial.label}"
        people = first.trial.candidate.trained | later.trial.candidate.trained
        if not all(selections.counts(people)):
            figures += _incomparable(first, later, selections.counts(people), options)
            continue
        selection = selections.without(people, labels)
        common = first.trial.selection is not later.trial.selection
        by = f"comparisons common to {labels}" if common else ""
        figures += _figures(first.on(selection, options), later.on(selection, options), by, options)
    return Section(f"Compared with {first.trial.label}", TEXT, tuple(figures))


def _incomparable(first: Rated, later: Rated, common: tuple[int, int], options: JudgeOptions) -> list[Figure]:
    """No value for any rate; ``common`` are the genuine and the impostor comparisons that both are judged by."""
    genuine, impostor = common
    note = insufficient(f"the two systems have {genuine:,} genuine and {impostor:,} impostor comparisons in common")
    return [
        figure(
            later.trial,
            dataclasses.replace(rate, found=None, note=note, genuine=genuine, impostor=impostor),
            options,
            relation="difference",
            against=first.trial.key,
        )
        for rate in later.rates
    ]


def _figures(first: Rated, later: Rated, by: str, options: JudgeOptions) -> list[Figure]:
    """``by`` names the comparisons where they are not those of the systems' own rows."""
    figures = []
    for ours, theirs in zip(first.rates, later.rates, strict=True):
        told = "; ".join(filter(None, (theirs.by, by)))
        more = dataclasses.replace(theirs, by=told)
        if ours.found is not None and theirs.found is not None:
            more = dataclasses.replace(more, found=difference(theirs.found, ours.found), note="")
            if by:
                figures += [
                    figure(one.trial, dataclasses.replace(rate, by=told), options)
                    for one, rate in ((first, ours), (later, theirs))
                ]
        elif not by:
            continue  # the systems' own rows say why
        figures.append(figure(later.trial, more, options, relation="difference", against=first.trial.key))
    return figures
