"""A better model than the live one, maybe: `retrain`."""

import logging
from pathlib import Path

import click

from pipelines.cli.common import BEAM, FILE, FiniteRange, beam_args_of, echo_json, store_option

__all__ = ["retrain"]

_log = logging.getLogger("rillet")


@click.command(context_settings=BEAM)
@store_option
@click.option("--config", type=FILE, help="Job file whose [model] may be another than the store's.")
@click.option(
    "--epochs",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Times through the log, each with the weights of the time before.",
)
@click.option(
    "--last",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    metavar="FRACTION",
    help="Last part of the micro-batches, on which the two models are compared.",
)
@click.option(
    "--tolerance",
    type=FiniteRange(0, 1),
    default=0.02,
    show_default=True,
    help="Share of recall@20 and NDCG@20 that the new model may lose.",
)
@click.option("--dry-run", is_flag=True, help="Train and compare; publish nothing.")
@click.pass_context
def retrain(
    context: click.Context,
    store: Path,
    config: Path | None,
    epochs: int,
    last: float,
    tolerance: float,
    dry_run: bool,
) -> None:
    """Train a store's model anew from its training log, and serve it if it is no worse.

    The new model goes through the whole log in order. On the last part of it, it predicts
    every micro-batch before it trains on it, as the live model did. It becomes the served
    version, with a number of its own, only where the lower bound (95 %, bootstrap over
    blocks of time) of what it gains on the live model is above minus --tolerance;
    otherwise everything stays and the exit status is 1.

    With --config it is trained with other [model] settings, which then are the store's;
    [features] and [batch] have to be the store's, [store] is not read. rillet run goes on
    from the new model. Killed at any moment, the store is as before or as after. Ends with
    one line of JSON. Options that Rillet does not know go to Beam.
    """
    beam_args = beam_args_of(context)
    from pipelines.bounded.retrain_job import RetrainRequest, run_retrain
    from pipelines.config import load_job
    from pipelines.errors import JobError

    request = RetrainRequest(
        store=store,
        config=load_job(config) if config else None,
        epochs=epochs,
        last=last,
        tolerance=tolerance,
        dry_run=dry_run,
        beam_args=tuple(beam_args),
    )
    outcome = run_retrain(request)
    echo_json(outcome)
    if outcome["reasons"] and not dry_run:
        raise JobError(
            f"version {outcome['retrain_of']} stays: the retrained model is refused: "
            f"{'; '.join(outcome['reasons'])}; try more --epochs or other [model] settings"
        )
