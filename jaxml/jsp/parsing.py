"""Instances as text: the standard format, Taillard's two blocks, JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import check
from jaxml.jsp.instance import InstanceError, JSPInstance

FORMATS = ("auto", "standard", "taillard", "json")


def parse_jsp(text: str, name: str = "", form: str = "auto") -> JSPInstance:
    r"""Reads one instance.

    Args:
      text: in the standard format, a line `jobs machines` and then per job a line of
        `machine duration` pairs, machines from 0 (jobs may be of unequal length); in Taillard's,
        a line of sizes, `Times` and a block of durations, `Machines` and a block of machines
        counted from 1; or in JSON, `{"machines": [[..]], "durations": [[..]]}` with optional
        `name`, `lb`, `ub`, `num_machines`, `release`, `available`. Lines that begin with # are
        comments.
      name: of the instance, where the text has none.
      form: one of `FORMATS`; "auto" tells them apart.

    Raises:
      InstanceError: names the line, the job and the operation.

    >>> parse_jsp("2 2\n0 3 1 2\n1 2 0 4").durations.tolist()
    [[3, 2], [2, 4]]
    """
    check.one_of(FORMATS, form=form)
    if form == "json" or (form == "auto" and text.lstrip().startswith("{")):
        return _json(text, name)
    lines = [
        (number, line.split("#")[0].split())
        for number, line in enumerate(text.splitlines(), 1)
        if line.split("#")[0].strip()
    ]
    if not lines:
        raise InstanceError("the text holds no instance: it is empty.")
    titles = [i for i, (_, words) in enumerate(lines) if words[0].lower() in ("times", "machines")]
    if form == "taillard" or (form == "auto" and titles):
        return _taillard(lines, titles, name)
    return _standard(lines, name)


def read_jsp(path: Path | str) -> JSPInstance:
    """Reads a file; the instance is named after it.

    Raises:
      FileNotFoundError: no such file.
      InstanceError: names the file and what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        return parse_jsp(path.read_text(encoding="utf-8"), path.stem)
    except UnicodeDecodeError:
        raise InstanceError(f"{path}: not a text file.") from None
    except InstanceError as error:
        raise InstanceError(f"{path}: {error}") from None


def to_text(instance: JSPInstance) -> str:
    """The instance in the standard format.

    Raises:
      InstanceError: release times or busy machines, which only JSON can hold.
    """
    if instance.release.any() or instance.available.any():
        raise InstanceError("release times and busy machines need the JSON format.")
    rows = [
        " ".join(f"{m} {d}" for m, d in zip(ms[:length], ds[:length], strict=True))
        for ms, ds, length in zip(
            instance.machines, instance.durations, instance.lengths, strict=True
        )
    ]
    return "\n".join([f"{instance.num_jobs} {instance.num_machines}", *rows]) + "\n"


def _numbers(number: int, words: list[str], what: str) -> list[int]:
    found = []
    for place, word in enumerate(words):
        try:
            value = float(word)
        except ValueError:
            raise InstanceError(
                f"line {number}, {what}, word {place}: {word!r} is no number."
            ) from None
        if not value.is_integer():
            raise InstanceError(f"line {number}, {what}, word {place}: {word} is no integer.")
        found.append(int(value))
    return found


def _sizes(lines: list[tuple[int, list[str]]]) -> tuple[int, int]:
    number, words = lines[0]
    sizes = _numbers(number, words[:2], "sizes")
    if len(sizes) < 2 or min(sizes) < 1:
        raise InstanceError(
            f"line {number}: an instance begins with `jobs machines`, both > 0; "
            f"got {' '.join(words)!r}."
        )
    return sizes[0], sizes[1]


def _standard(lines: list[tuple[int, list[str]]], name: str) -> JSPInstance:
    jobs, machines = _sizes(lines)
    rows = lines[1 : 1 + jobs]
    if len(rows) < jobs:
        raise InstanceError(f"the first line announces {jobs} jobs; got {len(rows)} lines of jobs.")
    routes, times = [], []
    for job, (number, words) in enumerate(rows):
        values = _numbers(number, words, f"job {job}")
        if len(values) % 2 or not values:
            raise InstanceError(
                f"line {number}, job {job}: a job is pairs `machine duration`; "
                f"got {len(values)} numbers."
            )
        _check_job(number, job, values[::2], values[1::2], machines)
        routes.append(values[::2])
        times.append(values[1::2])
    return _build(routes, times, machines, name)


def _check_job(number: int, job: int, route: list[int], times: list[int], machines: int) -> None:
    for op, (machine, duration) in enumerate(zip(route, times, strict=True)):
        place = f"line {number}, job {job}, operation {op}"
        if not 0 <= machine < machines:
            raise InstanceError(f"{place}: machine must lie in [0, {machines - 1}]; got {machine}.")
        if duration < 0:
            raise InstanceError(f"{place}: duration must be >= 0; got {duration}.")
        if machine in route[:op]:
            raise InstanceError(f"{place}: machine {machine} is visited twice.")


def _taillard(lines: list[tuple[int, list[str]]], titles: list[int], name: str) -> JSPInstance:
    if len(titles) != 2:
        raise InstanceError("Taillard's format has the titles `Times` and `Machines`.")
    jobs, machines = _sizes(lines)
    blocks = []
    for title in titles:
        rows = lines[title + 1 : title + 1 + jobs]
        what = lines[title][1][0].lower()
        if len(rows) < jobs:
            raise InstanceError(f"block {what}: {jobs} jobs are announced; got {len(rows)} rows.")
        block = []
        for job, (number, words) in enumerate(rows):
            values = _numbers(number, words, f"{what} of job {job}")
            if len(values) != machines:
                raise InstanceError(
                    f"line {number}, job {job}: {machines} {what} expected; got {len(values)}."
                )
            block.append(values)
        blocks.append((what, rows, block))
    times = next(b for what, _, b in blocks if what == "times")
    rows, routes = next((r, b) for what, r, b in blocks if what == "machines")
    routes = [[m - 1 for m in route] for route in routes]
    for job, (number, _) in enumerate(rows):
        _check_job(number, job, routes[job], times[job], machines)
    return _build(routes, times, machines, name)


def _build(
    routes: list[list[int]], times: list[list[int]], machines: int, name: str, **more: Any
) -> JSPInstance:
    width = max(map(len, routes), default=0)
    padded = [
        [*row, *[fill] * (width - len(row))]
        for fill, rows in ((-1, routes), (0, times))
        for row in rows
    ]
    array = np.asarray(padded)
    return JSPInstance(
        array[: len(routes)], array[len(routes) :], name, num_machines=machines, **more
    )


def _json(text: str, name: str) -> JSPInstance:
    try:
        record = json.loads(text)
        routes, times = record["machines"], record["durations"]
    except json.JSONDecodeError as error:
        raise InstanceError(f"line {error.lineno}: not JSON ({error.msg}).") from None
    except (KeyError, TypeError):
        raise InstanceError("JSON must hold `machines` and `durations`.") from None
    if not (isinstance(routes, list) and isinstance(times, list) and len(routes) == len(times)):
        raise InstanceError("`machines` and `durations` must be lists with one entry per job.")
    for job, (route, row) in enumerate(zip(routes, times, strict=True)):
        if not (isinstance(route, list) and isinstance(row, list) and len(route) == len(row)):
            raise InstanceError(f"job {job}: as many durations as machines are needed.")
        for op, value in enumerate([*route, *row]):
            if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
                raise InstanceError(
                    f"job {job}, operation {op % len(route)}: {value!r} is no integer."
                )
    machines = record.get("num_machines") or 1 + max((m for r in routes for m in r), default=-1)
    keys = ("lb", "ub", "release", "available")
    more = {key: record[key] for key in keys if record.get(key) is not None}
    try:
        return _build(routes, times, machines, record.get("name", name), **more)
    except (TypeError, ValueError) as error:
        raise InstanceError(str(error)) from None
