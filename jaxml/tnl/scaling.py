"""Training over several devices against one of them: `python -m jaxml.tnl.scaling OUT.json`.

    python -m jaxml.tnl.scaling OUT.json --only weak --preset 385m
    python -m jaxml.tnl.scaling OUT.json --only time --preset 385m --lengths 131072 1048576
    python -m jaxml.tnl.scaling OUT.json --only parts --preset 7b

`weak`: the parameters in parts, every device its own rows (FSDP). `time`: one row whose time is
split over all devices (sequence parallelism). `parts`: a model that one device may not hold, split
by FSDP and by heads. One device and all make the same updates in alternation, on random tokens.
What every program needs is printed before it runs; one that does not fit is a row with its bytes.
Needs jax, numpy, optax and flax. The file is written after every measurement.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxml.core import check
from jaxml.dist import payload
from jaxml.report import timing
from jaxml.report.timing import Row
from jaxml.tnl.config import PRESETS, TNLConfig
from jaxml.tnl.program import (
    Program,
    alternate,
    compile_all,
    memory_limit,
    planned,
    program,
    start,
    state_bytes,
)
from jaxml.train import metric

WEAK, TIME, FLAT = 0.95, 0.90, 0.95
"""Asked for: share of one device's speed by FSDP and with time split, slowest over fastest."""

type Keep = Callable[..., None]
"""`(rows, programs=())`: writes rows, and the outlines of programs if they are asked for."""


@dataclasses.dataclass(frozen=True)
class How:
    """What is measured, and how.

    Attributes:
      preset: name of the model.
      cfg: the model.
      devices: those used together; the first of them is used alone as well.
      repeats: updates of each.
      threads: programs compiled side by side.
      dry: compile only.
    """

    preset: str
    cfg: TNLConfig
    devices: Sequence[Any]
    repeats: int = 5
    threads: int = 4
    dry: bool = False

    @property
    def num(self) -> int:
        """Of devices."""
        return len(self.devices)


def weak(how: How, seq_len: int, rows: int, keep: Keep) -> None:
    """Equal tokens a device: parameters in parts over all (FSDP), beside one."""
    shape = f"{how.preset} N{seq_len}"
    alone, all_of_them = (planned(how.cfg, {"fsdp": n}, how.devices) for n in (1, how.num))
    one = program(f"{shape} B{rows}, one device", alone, rows, seq_len)
    name = f"{shape} B{rows * how.num}, fsdp={how.num}"
    many = program(name, all_of_them, rows * how.num, seq_len)
    compile_all([one, many], how.threads)
    keep([*_about(one), *_about(many)], [one, many])
    if how.dry or not (one.fits and many.fits):
        return
    start(alone)
    start(all_of_them)
    seconds = alternate([many, one], how.repeats)
    keep([_beside(many, one, seconds, WEAK), *_use(one, seconds[1]), *_use(many, seconds[0])])


def over_time(how: How, lengths: Sequence[int], keep: Keep) -> None:
    """One row over all devices, length by length, beside one device with the shortest."""
    lengths = sorted(lengths)
    check.divides(devices=how.num, shortest_length=lengths[0])
    alone, all_of_them = (planned(how.cfg, {"seq": n}, how.devices) for n in (1, how.num))
    one = program(f"{how.preset} N{lengths[0]} B1, one device", alone, 1, lengths[0])
    many = [
        program(f"{how.preset} N{length} B1, seq={how.num}", all_of_them, 1, length)
        for length in lengths
    ]
    compile_all([one, many[0]], how.threads)
    keep(_about(one), [one])
    plans, rates = [alone, all_of_them], []
    for found in many:  # compiled one by one, so that a run that is cut off has measured some
        if found is not many[0]:
            found.compile()
        keep(_about(found), [found])
        if how.dry or not (one.fits and found.fits):
            continue
        while plans:
            start(plans.pop())
        seconds = alternate([found, one], how.repeats)
        rates.append(found.tokens / seconds[0])
        keep([_beside(found, one, seconds, TIME), *_use(found, seconds[0])])
    keep(_payload(how, many))
    many = [found for found in many if found.fits]
    if not rates:
        return
    flat, case = min(rates) / max(rates), _lengths(how, many)
    keep([Row(case, "slowest_over_fastest", "", flat, "goal", FLAT, flat / FLAT, 1.0)])


def parts(how: How, seq_len: int, rows: int, keep: Keep) -> None:
    """A model that one device may not hold, split by FSDP and then by heads; share of the peak."""
    shape, rows = f"{how.preset} N{seq_len} B{rows * how.num}", rows * how.num
    found = []
    for axis in ("fsdp", "model"):
        split = planned(how.cfg, {axis: how.num}, how.devices)
        found.append(program(f"{shape}, {axis}={how.num}", split, rows, seq_len))
    need, limit = state_bytes(found[0].trainee), memory_limit()
    share = None if limit is None else limit / need
    there = None if limit is None else "a device has"
    keep([Row(f"{how.preset}, all devices", "state_bytes", "B", need, there, limit, share)])
    compile_all(found, how.threads)
    for one in found:
        keep(_about(one), [one])
    for one in found:
        if one.fits and not how.dry:
            start(one.trainee)
            (seconds,) = alternate([one], how.repeats)
            rate = one.tokens / seconds / one.num_devices
            keep([Row(one.name, "tokens_s_device", "/s", rate), *_use(one, seconds)])
            one.trainee.now = None


def _about(one: Program) -> list[Row]:
    """What an update needs, beside what there is, and what it sends."""
    rows, limit = [Row(one.name, "compile_s", "s", one.compile_s)], memory_limit()
    if one.problem:
        rows.append(Row(f"{one.name}: {one.problem}", "problem", "", 1.0))
    if not one.bytes:
        return rows
    there = None if limit is None else "a device has"
    share = None if limit is None else limit / one.bytes
    rows.append(Row(one.name, "step_bytes", "B", one.bytes, there, limit, share))
    return [*rows, Row(one.name, "collective_bytes", "B", one.sent)]


def _beside(many: Program, one: Program, seconds: Sequence[float], goal: float) -> Row:
    """Tokens a second and device, of all devices and of one."""
    rate = many.tokens / seconds[0] / many.num_devices
    alone = one.tokens / seconds[1]
    return Row(many.name, "tokens_s_device", "/s", rate, one.name, alone, rate / alone, goal)


def _use(one: Program, seconds: float) -> list[Row]:
    flops = one.trainee.lm.flops_per_token
    assert flops is not None  # a TransNormerLLM has it
    share = metric.mfu(one.tokens / seconds, flops(one.seq_len), num_devices=one.num_devices)
    return [] if share is None else [Row(one.name, "mfu", "", share)]


def _lengths(how: How, many: Sequence[Program]) -> str:
    return f"{how.preset} seq={how.num}, {many[0].seq_len} to {many[-1].seq_len} tokens"


def _payload(how: How, many: Sequence[Program]) -> list[Row]:
    """Whether collectives send as much at every length."""
    many = [found for found in many if found.sent]
    if not many:
        return []
    ratio = min(one.sent for one in many) / max(one.sent for one in many)
    case = _lengths(how, many)
    return [Row(case, "collectives_most_over_least", "x", 1 / ratio, "goal", 1.0, ratio, 1.0)]


SECTIONS = ("weak", "time", "parts")


def measure(args: argparse.Namespace) -> list[Row]:
    """The sections asked for; the file is written after every measurement."""
    kept: list[Row] = []

    def keep(rows: Sequence[Row], programs: Sequence[Program] = ()) -> None:
        kept.extend(rows)
        timing.write(args.out, kept)
        for one in programs if args.outline else ():
            with args.outline.open("a") as file:
                file.write(f"{one.name}\n{payload.outline(one.text)}\n\n")

    cfg = PRESETS[args.preset]
    if args.remat is not None:
        cfg = dataclasses.replace(cfg, remat=args.remat)
    devices = jax.devices()[: args.devices]
    how = How(args.preset, cfg, devices, args.repeats, args.threads, args.dry)
    if "weak" in args.only:
        weak(how, args.seq_len, args.rows, keep)
    if "time" in args.only:
        over_time(how, args.lengths, keep)
    if "parts" in args.only:
        parts(how, args.seq_len, args.rows, keep)
    return kept


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(description=__doc__)
    add = made.add_argument
    add("out", type=Path)
    add("--only", nargs="+", choices=SECTIONS, default=["weak", "time"])
    add("--preset", default="385m", choices=sorted(PRESETS))
    add("--devices", type=int, help="use the first so many (default: all)")
    add("--seq-len", type=int, default=2048, help="of weak and parts")
    add("--rows", type=int, default=64, help="of a batch on every device, of weak and parts")
    add("--lengths", type=int, nargs="+", default=[131_072, 524_288, 1_048_576, 4_194_304])
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=4, help="programs compiled side by side")
    add("--dry", action="store_true", help="compile and print what is needed, run nothing")
    add("--outline", type=Path, help="append the collectives of every program to this file")
    add("--remat", choices=("none", "full", "dots"), default="full")
    return made


def main() -> None:
    """Parses the flags, measures, writes."""
    print(timing.table(measure(parser().parse_args())))


if __name__ == "__main__":
    main()
