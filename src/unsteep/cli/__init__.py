"""The command line: one file a verb; each parses, builds and calls. A verb's file is imported when the verb is used.

A user's mistake is one line on stderr and exit code 2; nothing here shows a traceback for it.
"""

from __future__ import annotations

import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import UnknownOptionError

from unsteep import __version__
from unsteep.cli.allocator import keep_freed
from unsteep.cli.common import HELD
from unsteep.cli.examples import ending
from unsteep.cli.terminal import say, unheard
from unsteep.core.budget import allowed

app = App(
    name="unsteep",
    help="Denoising diffusion: train on your own data, sample fast, see what is happening. After any verb, "
    "--memory 4GB says how much memory may be used, and --debug shows where an error comes from.",
    version=__version__,
    default_parameter=Parameter(negative_iterable=()),
)
VERBS = {
    "Training": {
        "data": "Look at a folder of pictures before training on it.",
        "train": "Train a model on pictures, an array or a packaged data set.",
        "settings": "List every key of --set, with its meaning and its choices.",
        "report": "Write the page of a run anew, while it trains or after.",
        "show": "Show what a run is and how far it has come.",
        "verify": "Check that everything in a run's folder is whole.",
        "distill": "Train a model of few calls from one that is trained.",
        "train-classifier": "Train a classifier of noisy pictures, for classifier guidance.",
    },
    "Sampling": {
        "sample": "Draw samples from a trained model.",
        "view": "Draw a clip of moving points, as an animation or a page.",
        "edit": "Keep some frames or parts of a clip, and make the rest fit.",
        "fill": "Fill in part of a picture.",
        "redraw": "Draw a picture again, from part of the way to noise.",
        "interpolate": "Show the way between two pictures, through a model's noise.",
        "invert": "Find the latents that given pictures come from.",
        "tune-grid": "Optimise the noise levels of a few steps for a model.",
    },
    "Measuring": {
        "evaluate": "Measure how good samples are, with the protocol and the error of every number.",
        "compare": "Hold evaluations against each other, and say what is not significant.",
        "likelihood": "Measure how many bits data take under a model, term by term.",
        "rate-distortion": "Draw what is seen of pictures against the bits received.",
        "study": "Settle a question: schedules, solvers, architecture, scale, guidance.",
        "ablate": "Compare what to predict and what to train on, on your data.",
    },
    "The machine and the mathematics": {
        "check": "Check the mathematics on this machine, and a run, against closed forms.",
        "bench": "Measure how fast this machine trains and samples.",
        "schedules": "List every noise schedule, in numbers and as a picture.",
    },
}
LONGEST = 1600  # characters of an error
OPTIONS = {"batch_size": "batch"}  # whose names are other ones than in the library
PYTHON = re.compile(
    r"unsteep\.\w+\([^)]*\)|(?<=\w )(?<!--set )(?P<name>\w+)=(?P<value>[\w./-]+)"
)  # whole calls stay as they are
for place, (heading, verbs) in enumerate(VERBS.items()):
    group = Group(heading, sort_key=place)
    for verb, summary in verbs.items():
        module = verb.replace("-", "_")
        app.command(f"unsteep.cli.{module}:{module}", name=verb, help=summary, help_epilogue=ending(verb), group=group)
app.register_install_completion_command(help="Complete verbs and options in this shell, from its next start on.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line on `arguments` (default: the process's own) and exits."""
    warnings.showwarning = _one_line
    keep_freed()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [one for one in arguments if one != "--debug"]
    try:
        with ExitStack() as held:
            arguments, memory = _without(arguments, "--memory")
            if memory is not None:
                held.enter_context(allowed(memory))
            context = copy_context()
            context.run(HELD.set, held)
            code = context.run(app, arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except UnknownOptionError as error:
        _fail(f"{_hinted(error, arguments)} Try --help.")
    except CycloptsError as error:
        _fail(f"{error} Try --help.")
    except (ValueError, OSError) as error:
        from unsteep.pages.files import in_words  # which waits for numpy

        if debug:
            say(traceback.format_exc(), file=sys.stderr)
        _fail(_as_option(in_words(error), arguments))
    except KeyboardInterrupt:
        say("interrupted", file=sys.stderr)
        sys.exit(130)
    if why := unheard():
        say(f"unsteep: standard output could not be written ({why}); the work itself was done", file=sys.stderr)
        code = code or 1
    sys.exit(code if isinstance(code, int) else 0)


def _without(arguments: list[str], option: str) -> tuple[list[str], str | None]:
    """What is left of the arguments without an option that all verbs have, and its value."""
    for place, one in enumerate(arguments):
        name, equals, value = one.partition("=")
        if name == option:
            if not equals and place + 1 == len(arguments):
                raise ValueError(f"{option}: expected a value, as in {option} 4GB")
            rest = arguments[:place] + arguments[place + (1 if equals else 2) :]
            return rest, value if equals else arguments[place + 1]
    return arguments, None


OTHERWISE = {"lr": "learning_rate", "epochs": "steps", "batch_size": "batch", "seed": "seed"}  # as other tools say


def _hinted(error: UnknownOptionError, arguments: Sequence[str]) -> str:
    """What is said of an option that there is none of: where --set has a key of its name, that key."""
    name = (error.token.keyword or "").lstrip("-").partition("=")[0].replace("-", "_")
    if not arguments or not any(one.name == "--set" for one in error.argument_collection):
        return str(error)
    from unsteep.core.open import settings_of
    from unsteep.data import Folder
    from unsteep.networks import UNetConfig
    from unsteep.training.settings import TrainConfig

    of = {"train": TrainConfig, "data": Folder, "model.network": UNetConfig}
    name = OTHERWISE.get(name, name)
    keys = [f"--set {where}.{name}=..." for where, config in of.items() if name in settings_of(config)]
    return f"Unknown option: {error.token.keyword}. Did you mean {' or '.join(keys)}?" if keys else str(error)


def _as_option(message: str, arguments: Sequence[str]) -> str:
    """A message of the library about its arguments, as one about the options of the same names: `seed: ...` and
    `force=True` in it become `--seed: ...` and `--force`."""
    module = sys.modules.get(f"unsteep.cli.{arguments[0].replace('-', '_')}") if arguments else None
    if module is None:
        return message
    options = _options(getattr(module, module.__name__.rpartition(".")[2]))

    def inside(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        if name not in options:
            return found[0]
        return options[name] if value == "True" else f"{options[name]} {value}"

    named = re.match(r"(negative )?(\w+):", message)
    start = options.get(named[0][:-1].replace(" ", "_"), "") if named else ""
    said = message[named.end() - 1 :] if named and start else message
    return start + PYTHON.sub(inside, said)


def _options(verb: Callable[..., object]) -> dict[str, str]:
    """The options of a verb, as typed, by the names of the library's arguments; those of a class beside its own."""
    hints: dict[str, Any] = get_type_hints(verb, include_extras=True)
    options: dict[str, str] = {}
    for name, parameter in inspect.signature(verb).parameters.items():
        if is_dataclass(hints.get(name)):
            options |= _options(hints[name])
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            given = [one.name for one in get_args(hints[name])[1:] if isinstance(one, Parameter) and one.name]
            options[name] = next(iter(given[0])) if given else f"--{name.replace('_', '-')}"
    return options | {theirs: options[ours] for theirs, ours in OPTIONS.items() if ours in options}


def _fail(message: str) -> None:
    line = " ".join(message.split())
    if len(line) > LONGEST:  # of a file that holds it all; what to do stands at the end
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    say(f"unsteep: {line}", file=sys.stderr)
    sys.exit(2)


def _one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    say(f"warning: {message}", file=sys.stderr)
