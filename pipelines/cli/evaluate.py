"""How good the model is: `evaluate`."""

import logging
from pathlib import Path

import click
from click.core import ParameterSource

from pipelines.cli.common import FiniteRange, echo_json, json_option, store_option

__all__ = ["evaluate"]

_log = logging.getLogger("rillet")
_COMPARED = ("stale", "frozen", "retrained")
_REPLAYED = {"k": "-k", "batches": "--batches", "compare": "--compare", "epochs": "--epochs"}


def _only_quick(context: click.Context) -> None:
    """Refuse what only a replay can do."""
    for name, option in _REPLAYED.items():
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                f"{option} needs the replay, which --quick does without: leave out one of them",
                context,
            )


def _compared(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    names = [name for name in text.split(",") if name and name != "none"]
    for name in names:
        if name not in _COMPARED:
            raise click.BadParameter(f"{name!r} is none of {', '.join(_COMPARED)} (or none)")
    return tuple(name for name in _COMPARED if name in names)


@click.command()
@store_option
@click.option(
    "-k", "--k", type=click.IntRange(1, 1_000), default=20, show_default=True, help="List length."
)
@click.option(
    "--last",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    metavar="FRACTION",
    help="Figures are of this last part of the micro-batches; the time split is where it begins.",
)
@click.option(
    "--batches", type=click.IntRange(min=2), metavar="N", help="Only the log's first N batches."
)
@click.option(
    "--compare",
    default=",".join(_COMPARED),
    show_default=True,
    callback=_compared,
    metavar="MODEL,…",
    help="Other models to train and compare with; none for none.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 20),
    default=2,
    show_default=True,
    help="Times that the retrained model goes through what is before the split.",
)
@click.option(
    "--blocks",
    type=click.IntRange(2, 100),
    default=5,
    show_default=True,
    help="Blocks of time for the cross-validation.",
)
@click.option(
    "--quick", is_flag=True, help="Only what the versions' manifests say, at 20: no replay."
)
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
    store: Path,
    k: int,
    last: float,
    batches: int | None,
    compare: tuple[str, ...],
    epochs: int,
    blocks: int,
    quick: bool,
    as_json: bool,
) -> None:
    """Measure a store's model on its own training log.

    A fresh model of the store's configuration goes through the log as the live one did:
    every micro-batch is predicted, then trained on. In the last part of it, on the same
    rows, these are compared:

    \b
    live         the model that learns on
    stale        weights as of the split; counts, histories and new ids go on
    frozen       nothing is learned or counted after the split
    retrained    trained on all before the split, --epochs times over; then learns on
    popularity   decayed popularity, the best half-life in hindsight
    transitions  what followed the user's last item, mixed with popularity, likewise

    Reported at k, over the whole catalogue, what a user had left out: recall, NDCG and MRR
    of each row; hit rate, precision and F1 of a user's rows in a micro-batch; coverage,
    diversity and novelty of the lists. Of the heads: AUC, accuracy, logloss, calibration,
    RMSE, rank correlation, beside running means per user and item. By slices: users and
    items in their first 10 rows or later; head items, which hold half of all feedback, or
    tail. By blocks of time, the baselines tuned on the blocks before. Intervals: 95 %,
    bootstrap over blocks of 50 micro-batches, what is compared drawn together.

    Takes as long as rillet run did, and about 1.6 times more with all of --compare. Reads
    only; a run may go on meanwhile.
    """  # noqa: D301 - click's \b keeps the lines
    if quick:
        _only_quick(context)
    from models.store.store import Store

    opened = Store.open(store)
    if quick:
        from models.evaluation.from_manifests import recorded_metrics

        told = recorded_metrics(opened, last, blocks)
    else:
        from pipelines.bounded.between_runs.stored_settings import stored_model

        config = stored_model(opened)
        _log.info("loading TensorFlow")
        from models.evaluation.log_replay import Request, replay
        from models.evaluation.report import evaluation_report

        request = Request(
            store=opened,
            config=config,
            k=k,
            last=last,
            batches=batches,
            arms=compare,
            epochs=epochs,
            blocks=blocks,
        )
        told = evaluation_report(replay(request, lambda line: _log.info("%s", line)))
    if as_json:
        echo_json(told)
        return
    from pipelines.cli.evaluation_tables import show_evaluation

    click.echo(show_evaluation(told), nl=False)
