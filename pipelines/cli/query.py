"""Questions to a store: `recommend`, `versions`, `export`."""

from collections.abc import Sequence
from pathlib import Path

import click

from pipelines.cli.common import FILE, echo_json, json_option, store_option

__all__ = ["export", "recommend", "versions"]


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as country=de")
        found[name] = value
    return found


@click.command()
@store_option
@click.option("--user", required=True, help="The user's id; a stranger gets what is popular.")
@click.option("-k", "k", type=int, default=10, show_default=True, help="How many, 1 to 1000.")
@click.option("--explain", is_flag=True, help="Say why each item is there.")
@click.option("--include-seen", is_flag=True, help="Also items the user interacted with.")
@click.option(
    "--attribute", "attributes", multiple=True, metavar="NAME=VALUE", help="Of a stranger."
)
@click.option(
    "--context",
    "contexts",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of the moment, for a stranger: --context device=phone.",
)
@click.option("--platform", help="Likewise.")
@json_option
def recommend(
    store: Path,
    user: str,
    k: int,
    explain: bool,
    include_seen: bool,
    attributes: Sequence[str],
    contexts: Sequence[str],
    platform: str | None,
    as_json: bool,
) -> None:
    """Recommend items to a user from the served version.

    Retrieval is exact over the published embeddings; the ranking heads order
    what it finds. A user without an embedding is answered from what was
    popular lately among people with the same attributes and context.
    """
    from models.serve.recommend import recommend as ask

    answer = ask(
        store,
        user,
        k,
        include_seen=include_seen,
        attributes=_pairs(attributes),
        context=_pairs(contexts),
        platform=platform,
    )
    if as_json:
        echo_json(answer.to_json())
        return
    from pipelines.cli.tables import show_answer

    click.echo(show_answer(answer, explain=explain), nl=False)


@click.command()
@store_option
@click.option(
    "--last", type=click.IntRange(min=0), default=30, show_default=True, help="How many; 0: all."
)
@json_option
def versions(store: Path, last: int, as_json: bool) -> None:
    """List the versions: how fresh each is, and how good it was before it learned.

    With --json all of them, whatever --last says.
    """
    from models.serve.versions import describe_versions

    rows = describe_versions(store)
    if as_json:
        echo_json(rows)
        return
    from pipelines.cli.tables import show_versions

    shown = rows[-last:] if last else rows
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown)} earlier versions; --last 0 shows them all")
    click.echo(show_versions(shown), nl=False)


@click.command()
@store_option
@click.option("--out", type=FILE, required=True, help="Parquet file to write.")
@json_option
def export(store: Path, out: Path, as_json: bool) -> None:
    """Write the served embeddings to one Parquet file.

    Columns: entity, id, embedding, version, updated_at, deleted.
    """
    from models.serve.export import export_embeddings

    done = export_embeddings(store, out)
    if as_json:
        echo_json(done)
    else:
        click.echo(
            f"{out}: {done['users']} users and {done['items']} items of version "
            f"{done['version']}, {done['dim']} numbers each, "
            f"events up to {done['newest_event_time']}"
        )
