"""What a compiled program sends between devices: bytes of its collectives, read from its text."""

import collections
import math
import re

OPS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "c64": 8, "c128": 16, "token": 0}
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\dm\d\w*)?)\[([\d,]*)\]")
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_OP = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.+?) ([a-z][\w\-]*)\(")
_CALLS = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r"\"known_trip_count\":\{\"n\":\"(\d+)\"\}")


def collectives(text: str) -> dict[str, int]:
    """Bytes of the results of every kind of collective in one run of a program, on one device.

    A collective inside a loop counts as often as the loop runs.

    Args:
      text: `compiled.as_text()`, of one device's program.

    Returns:
      Bytes by kind; kinds that do not occur are left out.

    Raises:
      ValueError: a collective in a loop whose number of turns the text does not say.
    """
    found, entry = _computations(text)
    known: dict[str, collections.Counter[str]] = {}

    def total(name: str) -> collections.Counter[str]:
        if name not in known:
            own, calls = found.get(name, (collections.Counter(), []))
            known[name] = collections.Counter(own)
            for callee, times in calls:
                inside = total(callee)
                if inside and times is None:
                    raise ValueError(f"loop {callee} holds collectives and runs unknown times.")
                for kind, size in inside.items():
                    known[name][kind] += size * (times or 0)
        return known[name]

    return dict(total(entry))


def outline(text: str) -> str:
    """The lines of a program's text that `collectives` reads: computations, loops, collectives."""
    words = (*(f" {op}" for op in OPS), " while(", " async-start(", " conditional(")
    kept = [
        line for line in text.splitlines() if _HEAD.match(line) or any(w in line for w in words)
    ]
    return "\n".join(kept)


type _Computation = tuple[collections.Counter[str], list[tuple[str, int | None]]]


def _computations(text: str) -> tuple[dict[str, _Computation], str]:
    """Own collectives and calls of every computation, and the name of the first to run."""
    found: dict[str, _Computation] = {}
    entry = here = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            here = head[1]
            found[here] = (collections.Counter(), [])
            entry = here if line.startswith("ENTRY") else entry
        elif here and (op := _OP.match(line)):
            _note(found[here], op[1], op[2], line)
    return found, entry


def _note(into: _Computation, shape: str, name: str, line: str) -> None:
    kind = name.removesuffix("-start")
    if kind in OPS:
        # Begun operations name what they read, too; all-reduces do so where that is in brackets.
        both = name != kind and (kind != "all-reduce" or shape.startswith("(("))
        into[0][kind] += _bytes(shape, last_half=both)
        return
    if name.endswith(("-done", "-update")):
        return
    trips = _TRIPS.search(line)
    times = (int(trips[1]) if trips else None) if name == "while" else 1
    callees = _CALLS.findall(line)
    for branches in _BRANCHES.findall(line):
        callees += [callee.strip().lstrip("%") for callee in branches.split(",")]
    into[1].extend((callee, times) for callee in callees)


def _bytes(shape: str, last_half: bool) -> int:
    """Of all arrays in a shape's text, or of what an operation under way will give."""
    arrays = [a for a in _ARRAY.findall(shape) if not (last_half and a == ("u32", ""))]
    if last_half:
        arrays = arrays[len(arrays) // 2 :]
    return sum(_width(kind) * math.prod(map(int, filter(None, dims.split(",")))) for kind, dims in arrays)


def _width(kind: str) -> int:
    if kind in _BYTES:
        return _BYTES[kind]
    digits = re.match(r"[a-z]+(\d+)", kind)
    return max(int(digits[1]) // 8, 1) if digits else 0
