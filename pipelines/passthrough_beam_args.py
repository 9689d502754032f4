"""What the command line leaves over goes to Beam, once it is known to be Beam's."""

import difflib
from collections.abc import Iterable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners import create_runner

from pipelines.errors import RequestError

__all__ = [
    "LOCAL_RUNNERS",
    "TrainerOptions",
    "check_beam_args",
    "is_local",
    "pipeline_options",
    "runner_name",
]

LOCAL_RUNNERS = frozenset({"directrunner", "fnapirunner", "inprocess", "bundlebaseddirectrunner"})
"""Runners whose options Python knows completely; others bring options of their own."""


class TrainerOptions(PipelineOptions):
    """What the worker that trains should have, on runners that give it one of its own."""

    @classmethod
    def _add_argparse_args(
        cls, parser: "beam.options.pipeline_options._BeamArgumentParser"
    ) -> None:
        parser.add_argument(
            "--trainer_accelerator",
            help="Beam's accelerator hint of the step that trains, such as "
            "type:nvidia-tesla-t4;count:1;install-nvidia-driver",
        )
        parser.add_argument(
            "--trainer_min_ram", help="memory of the worker that trains, such as 8GB"
        )

    def hints(self) -> dict[str, str]:
        """Those that were given, as `with_resource_hints` takes them."""
        asked = {"accelerator": self.trainer_accelerator, "min_ram": self.trainer_min_ram}
        return {name: value for name, value in asked.items() if value}


_IN_PROCESS = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def _beam_parser() -> "beam.options.pipeline_options._BeamArgumentParser":
    parser = beam.options.pipeline_options._BeamArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    seen: set[type[PipelineOptions]] = set()
    pending = list(PipelineOptions.__subclasses__())
    while pending:
        options = pending.pop()
        if options in seen:
            continue
        seen.add(options)
        pending.extend(options.__subclasses__())
        adder = options.__dict__.get("_add_argparse_args")
        if adder is not None:
            adder.__get__(None, options)(parser)
    return parser


def runner_name(args: Sequence[str]) -> str:
    """The runner that the arguments name; the default one where they do not."""
    for position, arg in enumerate(args):
        if arg.startswith("--runner="):
            return arg.partition("=")[2]
        if arg == "--runner" and position + 1 < len(args):
            return args[position + 1]
    return "DirectRunner"


def is_local(args: Sequence[str]) -> bool:
    """Whether the arguments name a runner inside this process (the default does)."""
    return runner_name(args).rpartition(".")[2].lower() in LOCAL_RUNNERS


def check_beam_args(args: Sequence[str], own_options: Iterable[str] = ()) -> list[str]:
    """Pass Beam's arguments through; refuse what neither Beam nor Rillet knows.

    Args:
        args: what the command line parser did not recognise.
        own_options: Rillet's options, for a suggestion.

    Raises:
        RequestError: an argument that nobody would read, with the nearest name.
    """
    parser = _beam_parser()
    try:
        _, unknown = parser.parse_known_args(list(args))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - argparse exits on some errors
        raise RequestError(f"Beam refuses its options {' '.join(args)}: {error}") from None
    # A cluster's job server has options of its own; a word among them may be a value.
    elsewhere = not is_local(args) and any(arg.startswith("-") for arg in unknown)
    if not unknown or elsewhere:
        return list(args)
    name = unknown[0].partition("=")[0]
    known = [*own_options, *parser._option_string_actions]
    near = difflib.get_close_matches(name, known, n=1)
    cure = (
        f"did you mean {near[0]}?" if near else "see --help for Rillet's, Beam's guide for Beam's"
    )
    raise RequestError(f"no such option {name}: {cure}")


def pipeline_options(args: Sequence[str], **defaults: object) -> PipelineOptions:
    """Beam's options from the leftover arguments; `defaults` hold where they are silent.

    Beam's own DirectRunner first tries to download a runner written in Go; the
    one in this process is exact for bounded input and is named outright.

    Raises:
        RequestError: there is no such runner, or a part of Beam that it needs is missing.
    """
    given = {arg.partition("=")[0].lstrip("-") for arg in args if arg.startswith("--")}
    quiet = {name: value for name, value in defaults.items() if name not in given}
    options = PipelineOptions(list(args), **quiet)
    if is_local(args):
        options.view_as(StandardOptions).runner = _IN_PROCESS
        return options
    try:
        create_runner(runner_name(args))
    except (ValueError, ImportError, AttributeError) as error:
        first = str(error).partition("\n")[0]
        raise RequestError(f"--runner={runner_name(args)} cannot be used: {first}") from None
    return options
