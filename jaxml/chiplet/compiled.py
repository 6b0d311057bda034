"""What a compiled program moves, read off its text."""

import dataclasses
import math
import re
from collections import Counter

_WIDTHS = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2, "s32": 4}
_COLLECTIVE = re.compile(
    r"= \(?(\w+)\[([\d,]*)\].*? (all-gather|reduce-scatter|all-reduce|all-to-all|"
    r"collective-permute)(?:-start)?\(.*?replica_groups=(\S+(?: \{[^}]*\})?)"
)


@dataclasses.dataclass(frozen=True)
class Moved:
    """Collectives of a compiled program.

    Attributes:
      counts: number by kind.
      gathered_bytes: bytes of the gathered (or not yet scattered) array of a group, by kind.
    """

    counts: dict[str, int]
    gathered_bytes: dict[str, int]


def count_collectives(text: str) -> Moved:
    """Reads the collectives off the text of a compiled program.

    Args:
      text: of `jax.jit(f).lower(...).compile().as_text()`.
    """
    counts, sizes = Counter[str](), Counter[str]()
    for dtype, dims, kind, groups in _COLLECTIVE.findall(text):
        size = _WIDTHS[dtype]
        for dim in dims.split(","):
            size *= int(dim or 1)
        counts[kind] += 1
        sizes[kind] += size * (_group_size(groups) if kind == "reduce-scatter" else 1)
    return Moved(dict(counts), dict(sizes))


def _group_size(groups: str) -> int:
    """Devices of a group: `{{0,1},{2,3}}`, `[2,2]<=[4]` or `mesh['a'=2,'b'=4] {'b'}`."""
    if groups.startswith("mesh["):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", groups))
        names = re.findall(r"'(\w+)'", groups[groups.index("]") :])
        return math.prod(int(sizes[name]) for name in names)
    if groups.startswith("["):
        return int(groups[1 : groups.index("]")].split(",")[1])
    return len(groups[2 : groups.index("}")].split(","))
