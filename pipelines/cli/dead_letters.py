"""What was refused, and how it comes back: `dead-letters`."""

from pathlib import Path
from typing import Any

import click

from pipelines.cli.common import FILE, FOLDER, echo_json, json_option

__all__ = ["dead_letters"]

_PAYLOAD = 160  # characters of a record that are printed


@click.command(name="dead-letters")
@click.argument("place", type=FOLDER, metavar="STORE|OUT")
@click.option("--reason", help="Only letters of this reason, such as bad_time.")
@click.option(
    "--examples", type=click.IntRange(0, 1_000), default=3, show_default=True, help="Of a reason."
)
@click.option("--export", "target", type=FILE, help="Write the records, one a line, to be mended.")
@click.option("--retry", type=FILE, help="Feed mended records (JSON lines) to the STORE.")
@json_option
def dead_letters(
    place: Path,
    reason: str | None,
    examples: int,
    target: Path | None,
    retry: Path | None,
    as_json: bool,
) -> None:
    """Show the records that were refused: how many, why, and where they stand.

    \b
    To mend some and bring them back:
      rillet dead-letters STORE --reason bad_time --export mend.jsonl
      … mend the lines of mend.jsonl …
      rillet dead-letters STORE --retry mend.jsonl

    --retry is rillet run --events mend.jsonl with the settings that the store
    was made with: a record that the store has seen is a duplicate, one whose
    window can no longer be revised becomes a letter too_late, and one that is
    still wrong a letter that names the mended file. What rillet features wrote
    is made anew instead, with --events mend.jsonl beside the log. The letters
    themselves stay: they say what was received.
    """  # noqa: D301 - click's \b keeps the lines
    if retry is not None:
        if target is not None or reason is not None:
            raise click.UsageError("--retry is given alone: it feeds a file, and shows no letters")
        echo_json(_retry(place, retry))
        return
    from pipelines.clean.dead_letter_report import export, letters_of, report

    found = report(letters_of(place, reason), examples)
    _check_reason(reason, found.letters, place)
    exported = export(letters_of(place, reason), target) if target else None
    if as_json:
        told = {
            "letters": found.letters,
            "reasons": found.reasons,
            "sources": found.sources,
            "examples": [one.told() for one in found.examples],
        }
        if exported:
            told["export"] = {"file": str(target), **vars(exported)}
        echo_json(told)
        return
    click.echo(_shown(found))
    if exported:
        click.echo(_said(exported, target))


def _check_reason(reason: str | None, letters: int, place: Path) -> None:
    """Refuse a reason that nothing is refused for."""
    from pipelines.clean.dead_letter_report import letters_of, report
    from pipelines.errors import RequestError
    from pipelines.schema import DEAD_REASONS

    if reason is None or letters:
        return
    there = report(letters_of(place), 0).reasons
    if reason not in there and reason not in DEAD_REASONS:
        raise RequestError(
            f"there is no reason {reason}; choose from {', '.join(there or DEAD_REASONS)}"
        )


def _shown(found: Any) -> str:
    if not found.letters:
        return "no dead letters"
    lines = [f"{found.letters:,} dead letters"]
    for reason, number in found.reasons.items():
        lines.append(f"\n{reason}: {number:,}")
        for one in found.examples:
            if one.reason == reason:
                lines += [f"  {one.where}", f"    {one.detail}", f"    {_text(one.payload)}"]
    return "\n".join(lines)


def _text(payload: bytes) -> str:
    """A record as it is printed: on one line, cut."""
    text = payload.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _PAYLOAD else f"{text[:_PAYLOAD]}… ({len(payload):,} bytes)"


def _said(exported: Any, target: Path | None) -> str:
    cut = f", {exported.cut} of them cut at 1 MiB" if exported.cut else ""
    if exported.binary:
        cut += f" ({exported.binary:,} are no text: read their topic again, once it can be decoded)"
    return (
        f"\n{exported.records:,} records written to {target}{cut}; mend them, then give the file "
        "to --retry, or to --events of another run"
    )


def _retry(place: Path, mended: Path) -> dict[str, Any]:
    """Run on the mended records, with the store's own settings; what the run says."""
    from models.store.store import Store
    from pipelines.cli.common import import_beam
    from pipelines.clock import wall_clock_ms
    from pipelines.errors import RequestError

    if (place / "summary.json").is_file() and not (place / "meta.json").is_file():
        raise RequestError(
            f"{place} is no store, but rows of a whole log: compute them anew with rillet "
            f"features --events LOG --events {mended} --out {place}"
        )
    store = Store.open(place)
    import_beam()
    from pipelines.bounded.between_runs.stored_settings import stored_job
    from pipelines.job import RunRequest, run_job

    request = RunRequest(
        events=(str(mended),),
        items=None,
        users=None,
        store=place,
        config=stored_job(store),
        predictions=None,
        beam_args=(),
        now_ms=wall_clock_ms(),
    )
    return run_job(request)
