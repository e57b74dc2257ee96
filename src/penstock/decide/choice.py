"""Which of these endpoints suits this prompt best?

Filters in their order leave some, unless they leave none and do not insist; scorers say how well each of those suits, and their weighted
sums are what the picker chooses by. What was weighed is told only when somebody asks: `explain` takes the same decision again, aloud.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from penstock.contracts.scheduling import Pipeline, Prompt, Scorer, View


class Choice(Struct, frozen=True, gc=False):
    """The place of the chosen endpoint in the view, the weighted sum of its scores, and how many there were to choose from."""

    index: int
    score: float
    considered: int


class Removal(Struct, frozen=True, kw_only=True):
    """What one filter took out, by endpoint's name. `overruled`: it would have left none, so all stayed."""

    filter: str
    endpoints: tuple[str, ...]
    overruled: bool = False


class Weighed(Struct, frozen=True, kw_only=True):
    """One endpoint: the sum of its scores, each score by scorer's name before its weight, and the tokens it is taken to hold."""

    endpoint: str
    score: float
    terms: dict[str, float]
    cached_tokens: float


class Reasons(Struct, frozen=True, kw_only=True):
    """All that a choice rests on; `chosen` and `runner_up` are endpoints' names, "" for none. `weighed` are in order of their sums."""

    chosen: str
    runner_up: str
    weights: dict[str, float]
    removed: tuple[Removal, ...]
    weighed: tuple[Weighed, ...]


def choose(prompt: Prompt, view: View, pipeline: Pipeline) -> Choice | None:
    """None where there is no endpoint, or a filter that insists leaves none."""
    filters, scorers, picker = pipeline
    places: Sequence[int] | None = None
    for _, one in filters:
        kept = one.keep(prompt, view)
        if kept is None:
            continue
        if not kept:
            if one.insists:
                return None
            continue
        places = kept if places is None else [places[i] for i in kept]
        view = _narrowed(view, kept)
    count = len(view.loads)
    if count == 0:
        return None
    if count == 1:
        return Choice(0 if places is None else places[0], 0.0, 1)
    sums = _sums(prompt, view, scorers)
    index = picker.pick(prompt, sums)
    return Choice(index if places is None else places[index], sums[index], count)


def explain(prompt: Prompt, view: View, pipeline: Pipeline) -> Reasons:
    """What `choose` weighs for the same arguments, with names."""
    weights = {name: weight for name, weight, _ in pipeline.scorers}
    removed = []
    for name, one in pipeline.filters:
        kept = one.keep(prompt, view)
        if kept is None:
            continue
        out = sorted(set(range(len(view.loads))) - set(kept))
        overruled = not kept and not one.insists
        if out:
            left_out = tuple(view.loads[i].endpoint.name for i in out)
            removed.append(Removal(filter=name, endpoints=left_out, overruled=overruled))
        if not overruled:
            view = _narrowed(view, kept)
    if not view.loads:
        return Reasons(chosen="", runner_up="", weights=weights, removed=tuple(removed), weighed=())
    sums = _sums(prompt, view, pipeline.scorers)
    terms = {name: scorer.score(prompt, view) for name, _, scorer in pipeline.scorers}
    index = pipeline.picker.pick(prompt, sums) if len(sums) > 1 else 0
    order = sorted(range(len(sums)), key=lambda i: (-sums[i], i != index, view.loads[i].endpoint.name))
    names = [load.endpoint.name for load in view.loads]
    return Reasons(
        chosen=names[index],
        runner_up=next((names[i] for i in order if i != index), ""),
        weights=weights,
        removed=tuple(removed),
        weighed=tuple(
            Weighed(
                endpoint=names[i],
                score=sums[i],
                terms={name: scores[i] for name, scores in terms.items()},
                cached_tokens=view.cached_tokens[i],
            )
            for i in order
        ),
    )


def _narrowed(view: View, kept: Sequence[int]) -> View:
    loads, cached = view.loads, view.cached_tokens
    return View([loads[i] for i in kept], [cached[i] for i in kept], view.now)


def _sums(prompt: Prompt, view: View, scorers: Sequence[tuple[str, float, Scorer]]) -> Sequence[float]:
    """The first scorer's column is not added to anything: most profiles have one."""
    sums: Sequence[float] | None = None
    for _, weight, scorer in scorers:
        scores = scorer.score(prompt, view)
        if sums is None:
            sums = scores if weight == 1.0 else [weight * score for score in scores]
        else:
            sums = [total + weight * score for total, score in zip(sums, scores, strict=True)]
    return sums if sums is not None else [0.0] * len(view.loads)
