"""From what a replay counted to what is printed: plain values, figures with intervals."""

from typing import Any

from models.evaluation.log_replay import Replay
from models.evaluation.metric_definitions import REQUEST_FIGURES, ROW_FIGURES
from models.evaluation.metric_sums import MetricSums, compare_with_arm, time_blocks
from models.evaluation.slices import SLICES
from models.store.manifest import utc_ms

__all__ = ["evaluation_report"]

_SLICE_FIGURES = ("recall", "ndcg")


def evaluation_report(run: Replay) -> dict[str, Any]:
    """Everything that a replay found, as values that JSON can carry.

    Returns:
        `what`: the stretch of the log. `ranking`: by model, figure@k → value, se, low, high.
        `baselines`: the same of the best arm of each kind, chosen in hindsight on those very
        rows for each figure, with half-life and m. `against`: the live model beside every
        other: `ratio` and `difference`. `slices`: recall and NDCG by slice. `blocks`: the
        time blocks of the whole log; the baselines' arms are those that led in the blocks
        before. `lists`, `heads`: by model, the heads by slice, too. `seconds`: of each part.
    """
    judged = slice(run.cells.of(run.split), len(run.cells))
    kinds = _kinds(run)
    return {
        "what": _what(run, judged),
        "ranking": {
            name: _figures(one.ranks, judged, 0, run.request.k)
            for name, one in run.contestants.items()
        },
        "baselines": {name: _baseline(run, judged, among) for name, among in kinds.items()},
        "against": _against(run, judged, kinds),
        "slices": _slices(run, judged, kinds),
        "blocks": _blocks(run, kinds),
        "lists": {
            name: {f"{figure}@{run.request.k}": value for figure, value in told.items()}
            for name, one in run.contestants.items()
            for told in [one.lists.report()]
        },
        "heads": {name: one.heads.report(run.cells.block) for name, one in run.contestants.items()},
        "seconds": run.seconds,
    }


def _what(run: Replay, judged: slice) -> dict[str, Any]:
    live = run.contestants["live"].ranks
    first, last = run.numbers[run.split], run.numbers[-1]
    return {
        "store": str(run.request.store.root),
        "k": run.request.k,
        "last": run.request.last,
        "batches": len(run.numbers),
        "left_out": run.left_out,
        "first_judged": first,
        "last_judged": last,
        "questions": int(live.rows[judged, 0].sum()),
        "requests": int(live.requests[judged].sum()),
        "learned_until": utc_ms(run.span[0]).isoformat(),
        "judged_until": utc_ms(run.span[1]).isoformat(),
        "epochs": run.request.epochs,
    }


def _kinds(run: Replay) -> dict[str, range]:
    """Arms of each kind of baseline."""
    width = len(run.arms.half_lives_h)
    return {
        "popularity": range(width),
        "transitions": range(width, run.baselines.row_sums.shape[-1]),
    }


def _figures(ranks: MetricSums, span: slice, arm: int, k: int) -> dict[str, Any]:
    return {
        f"{figure}@{k}": ranks.mean(figure, span, arm).to_json()
        for figure in (*ROW_FIGURES, *REQUEST_FIGURES)
    }


def _baseline(run: Replay, span: slice, among: range) -> dict[str, Any]:
    """Figures of the arm that is best for each of them, in hindsight."""
    out = {}
    for figure in (*ROW_FIGURES, *REQUEST_FIGURES):
        arm = run.baselines.best(figure, span, among)
        found = run.baselines.mean(figure, span, arm).to_json()
        named = {} if found["value"] is None else run.arms.arm(arm)  # none leads where none asks
        out[f"{figure}@{run.request.k}"] = {**found, **named}
    return out


def _against(run: Replay, span: slice, kinds: dict[str, range]) -> dict[str, Any]:
    live, k = run.contestants["live"].ranks, run.request.k
    out: dict[str, Any] = {}
    for name, among in kinds.items():
        out[name] = {
            f"{figure}@{k}": compare_with_arm(
                live, run.baselines, figure, span, run.baselines.best(figure, span, among)
            )
            for figure in (*ROW_FIGURES, *REQUEST_FIGURES)
        }
    for name, one in run.contestants.items():
        if name != "live":
            out[name] = {
                f"{figure}@{k}": compare_with_arm(live, one.ranks, figure, span)
                for figure in (*ROW_FIGURES, *REQUEST_FIGURES)
            }
    return out


def _slices(run: Replay, span: slice, kinds: dict[str, range]) -> dict[str, Any]:
    """Recall and NDCG of every model and of the best arm (as on all rows) by slice."""
    out: dict[str, Any] = {}
    for name in SLICES[1:]:
        live = run.contestants["live"].ranks
        told: dict[str, Any] = {"questions": int(live.rows[span, SLICES.index(name)].sum())}
        for figure in _SLICE_FIGURES:
            models = {
                who: one.ranks.mean(figure, span, 0, name).to_json()
                for who, one in run.contestants.items()
            }
            arms = {
                kind: run.baselines.mean(
                    figure, span, run.baselines.best(figure, span, among), name
                ).to_json()
                for kind, among in kinds.items()
            }
            told[f"{figure}@{run.request.k}"] = {**models, **arms}
        out[name] = told
    return out


def _blocks(run: Replay, kinds: dict[str, range]) -> list[dict[str, Any]]:
    """The whole log, in `time_blocks`."""
    live, k = run.contestants["live"].ranks, run.request.k
    out = []
    for span in time_blocks(live.rows[:, 0], run.request.blocks):
        before = slice(0, span.start or span.stop)
        told: dict[str, Any] = {"questions": int(live.rows[span, 0].sum())}
        for figure in _SLICE_FIGURES:
            arms = {
                kind: run.baselines.mean(
                    figure, span, run.baselines.best("ndcg", before, among)
                ).to_json()
                for kind, among in kinds.items()
            }
            told[f"{figure}@{k}"] = {"live": live.mean(figure, span).to_json(), **arms}
        out.append(told)
    return out
