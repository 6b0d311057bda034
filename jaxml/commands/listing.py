"""`jaxml list`."""

from jaxml import SYSTEMS
from jaxml.cli import GROUPS


def main() -> None:
    """Prints every system with what it does and the verbs it has on the command line."""
    for name, about in SYSTEMS.items():
        verbs = ", ".join(GROUPS[name]) if name in GROUPS else "not built yet"
        print(f"{name:<8} {about}  [{verbs}]")
