"""The command line: `jaxml COMMAND --flags` and `jaxml SYSTEM VERB --flags`.

Two tables of `module:function` strings. The chosen function is imported then, and tyro turns its
signature into flags; nothing else is imported before.
"""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxml import SYSTEMS, __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "list": (
        "jaxml.commands.listing:main",
        "the eleven systems, what each does, which verbs it has",
    ),
    "reproduce": ("jaxml.commands.reproduce:main", "re-measure the published claims, write a page"),
    "doctor": ("jaxml.commands.doctor:main", "devices, versions, kernels and why, data sets found"),
}
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "data": {
        "list": ("jaxml.commands.data:list_sets", "the data sets, and where each was found"),
        "prepare": ("jaxml.commands.data:prepare", "write a data set as a TFDS folder, verified"),
    },
    "tnl": {
        "train": ("jaxml.tnl.commands:train", "train a language model on text"),
        "generate": ("jaxml.tnl.commands:generate", "continue a prompt with a trained model"),
        "eval": ("jaxml.tnl.commands:evaluate", "perplexity of a trained model on a text"),
        "import": ("jaxml.tnl.commands:adopt", "take over a released checkpoint"),
        "export": ("jaxml.tnl.commands:export", "write a trained model as a released checkpoint"),
        "harness": ("jaxml.tnl.commands:harness", "score it on tasks of lm-evaluation-harness"),
        "table": ("jaxml.tnl.commands:table", "print the studies on a GPU and their verdicts"),
        "bench": ("jaxml.tnl.commands:bench", "time attention and decoding against length"),
    },
    "chiplet": {
        "simulate": ("jaxml.chiplet.commands:simulate", "time and energy of a training batch"),
        "compare": ("jaxml.chiplet.commands:compare", "one batch by several methods"),
        "sweep": ("jaxml.chiplet.commands:sweep", "a grid of designs and its Pareto front"),
        "optimize": ("jaxml.chiplet.commands:optimize", "gradient search within budgets"),
        "explore": ("jaxml.chiplet.commands:explore", "write the interactive page"),
    },
    "jsp": {
        "solve": ("jaxml.jsp.commands:solve", "schedule a job shop from a file"),
        "train": ("jaxml.jsp.commands:train", "train a policy by self-labelling"),
        "bench": ("jaxml.jsp.commands:bench", "solve classical instances, with gaps"),
    },
    "merge": {
        "run": ("jaxml.merge.commands:run", "merge trained networks, score base, ensemble, merge"),
        "train": ("jaxml.merge.commands:train", "train networks from different seeds to merge"),
        "table": ("jaxml.merge.commands:table", "print the scores and claims of a finished study"),
    },
    "nfard": {
        "detect": ("jaxml.nfard.commands:detect", "is this model a copy of mine?"),
        "zoo": ("jaxml.nfard.commands:zoo", "build or evaluate a zoo of reused models"),
        "verify": ("jaxml.nfard.commands:verify", "compute an evidence bundle's verdict again"),
        "table": ("jaxml.nfard.commands:table", "print a finished study and its claims"),
    },
    "cap": {
        "prune": ("jaxml.cap.commands:prune", "fine-tune, prune and export a sentence encoder"),
        "table": ("jaxml.cap.commands:table", "print the accuracies and verdicts of a study"),
        "bench": ("jaxml.cap.commands:bench", "time an encoder with heads and neurons removed"),
    },
    "dp": {
        "train": ("jaxml.dp.commands:train", "train a private classifier, with its report"),
        "account": ("jaxml.dp.commands:account", "what a training costs, by every accountant"),
        "audit": ("jaxml.dp.commands:audit", "a lower bound on epsilon from one training"),
        "table": ("jaxml.dp.commands:table", "print the scores and claims of finished studies"),
    },
    "emu": {
        "specialize": ("jaxml.emu.commands:specialize", "make an encoder know your intents"),
        "predict": ("jaxml.emu.commands:ask", "intents of sentences, and what is out of scope"),
        "embed": ("jaxml.emu.commands:embed", "write sentence embeddings"),
        "evaluate": ("jaxml.emu.commands:score", "nearest-neighbour accuracy by language"),
        "table": ("jaxml.emu.commands:table", "print a finished study and its verdicts"),
    },
    "univilm": {
        "pretrain": ("jaxml.univilm.commands:pretrain", "pre-train on narrated videos"),
        "finetune": ("jaxml.univilm.commands:finetune", "fine-tune for retrieval or captions"),
        "caption": ("jaxml.univilm.commands:caption", "write captions for videos"),
        "retrieve": ("jaxml.univilm.commands:retrieve", "find clips in a folder by words"),
    },
    "curate": {
        "run": ("jaxml.curate.commands:run", "run a pipeline of a TOML file over documents"),
        "dedup": ("jaxml.curate.commands:dedup", "remove exact and near duplicates"),
        "filter": ("jaxml.curate.commands:filter", "apply the rules of Gopher, C4, FineWeb"),
        "mix": ("jaxml.curate.commands:mix", "draw documents that look like a target (DSIR)"),
        "scale": ("jaxml.curate.commands:scale_", "fit a scaling law, all local minima shown"),
        "plan": ("jaxml.curate.commands:plan", "what to train with a budget and few tokens"),
    },
    "driving": {
        "detect2d": ("jaxml.driving.detection2d.commands:detect2d", "cells in real images"),
        "detect3d": ("jaxml.driving.detection3d.commands:detect3d", "cars by simulated LiDAR"),
        "depth": ("jaxml.driving.depth.commands:depth", "depth from one camera"),
        "fuse": ("jaxml.driving.fusion.commands:fuse", "camera, LiDAR, or both on one map"),
        "v2x": ("jaxml.driving.v2x.commands:v2x", "vehicles that share what they sense"),
        "odometry": ("jaxml.driving.localization.commands:odometry", "a path from LiDAR clouds"),
        "predict": ("jaxml.driving.prediction.commands:predict", "forecast pedestrians of a scene"),
        "plan": ("jaxml.driving.planning.commands:plan", "drive episodes of a public simulator"),
        "safety": ("jaxml.driving.safety.commands:safety", "judge drives by RSS and TTC"),
    },
}
"""Verbs of `data` and of every built system."""
DEFAULT_VERBS: dict[str, str] = {"merge": "run"}
"""Verbs that may be left out before the name of a file."""


def usage() -> str:
    """The text of `jaxml --help`."""
    lines = [
        f"jaxml {__version__}: published systems in JAX, every claim re-measured.",
        "",
        "usage: jaxml COMMAND [--flags]        jaxml SYSTEM VERB [--flags]",
        "",
        "commands:",
    ]
    lines += [f"  {name:<18} {about}" for name, (_, about) in COMMANDS.items()]
    for group, verbs in GROUPS.items():
        title = "data sets" if group == "data" else SYSTEMS[group]
        lines += ["", f"{group}: {title}"]
        lines += [f"  {f'{group} {verb}':<18} {about}" for verb, (_, about) in verbs.items()]
    lines += [
        "",
        "Every command explains its flags with --help. Start with:",
        "  jaxml reproduce tnl          train, measure, write report/index.html",
        "  jaxml tnl train --help",
        "Exit status: 0 done, 1 a check of the command failed, 2 bad input.",
        "JAXML_DATA names the folder of data sets; JAXML_TRACEBACK=1 shows where an error arose.",
    ]
    return "\n".join(lines)


class UsageError(ValueError):
    """Words on the command line that name nothing."""


def _choose(word: str, choices: Mapping[str, object], what: str) -> str:
    if word in choices:
        return word
    close = difflib.get_close_matches(word, list(choices), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(choices)}."
    raise UsageError(f"no {what} {word!r}{hint}")


def resolve(words: Sequence[str]) -> tuple[str, str, list[str]]:
    """The target `module:function`, the words that named it, and the flags that are left.

    Raises:
      UsageError: the words name no command; the nearest one is suggested.
    """
    first, *rest = words
    if first in SYSTEMS and first not in GROUPS:
        raise UsageError(f"{first} is not built yet; `jaxml list` shows what is.")
    name = _choose(first, {**COMMANDS, **GROUPS}, "command or system")
    if name in COMMANDS:
        return COMMANDS[name][0], name, rest
    if not rest or rest[0].startswith("-"):
        raise UsageError(f"`jaxml {name}` needs a verb: {', '.join(GROUPS[name])}.")
    if name in DEFAULT_VERBS and rest[0] not in GROUPS[name] and os.path.exists(rest[0]):
        rest = [DEFAULT_VERBS[name], *rest]
    verb = _choose(rest[0], GROUPS[name], f"verb of {name}")
    return GROUPS[name][verb][0], f"{name} {verb}", rest[1:]


def run(words: Sequence[str]) -> int:
    """Runs one command line; returns the exit status."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    if len(words) == 2 and words[0] in GROUPS and words[1] in ("-h", "--help"):
        for verb, (_, about) in GROUPS[words[0]].items():
            print(f"jaxml {words[0]} {verb:<12} {about}")
        return 0
    target, prog, flags = resolve(words)
    import tyro

    module, function = target.split(":")
    command = getattr(importlib.import_module(module), function)
    if (of_preset := getattr(command, "of_preset", None)) is not None:
        preset, config = _defaults(flags, tyro)
        takes_config = "config" in inspect.signature(of_preset).parameters
        command = of_preset(preset, config) if config and takes_config else of_preset(preset)
    status = tyro.cli(command, prog=f"jaxml {prog}", args=flags)
    return int(status or 0)


def _defaults(flags: list[str], tyro: Any) -> tuple[str | None, Path | None]:
    """The values of `--preset` and `--config`: the defaults that all other flags change."""

    def defaults(
        preset: str | None = None, config: Path | None = None
    ) -> tuple[str | None, Path | None]:
        return preset, config

    known = tyro.cli(
        defaults, args=flags, return_unknown_args=True, add_help=False, console_outputs=False
    )
    return known[0]


def main() -> None:
    """Entry point: errors of input become one line and exit status 2."""
    if os.environ.get("JAXML_TRACEBACK"):
        sys.exit(run(sys.argv[1:]))
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        print("jaxml: interrupted.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"jaxml: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
