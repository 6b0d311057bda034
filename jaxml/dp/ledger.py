"""Several releases on the same data: one guarantee for all of them."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from jaxml.core import files
from jaxml.dp import gdp
from jaxml.dp.privacy import PrivacyReport


class LedgerError(ValueError):
    """A release that cannot be added up with the others."""


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Releases, oldest first; make a new one by `add`.

    Attributes:
      reports: of the releases, all of one guarantee and adjacency.
    """

    reports: tuple[PrivacyReport, ...] = ()

    def add(self, report: PrivacyReport) -> "Ledger":
        """The ledger with one release more.

        Raises:
          LedgerError: a release without mu, or of another guarantee or adjacency.
        """
        if report.mu is None:
            raise LedgerError(
                "only releases with mu add up here; "
                f"got accountant={report.accountant!r}, which gives epsilon alone."
            )
        for name in ("guarantee", "adjacency"):
            ours = {getattr(r, name) for r in self.reports}
            new = getattr(report, name)
            if ours and new not in ours:
                raise LedgerError(
                    f"{name} must be the same for all releases of a ledger; "
                    f"got {new!r} after {ours.pop()!r}."
                )
        return Ledger((*self.reports, report))

    @property
    def mu(self) -> float:
        """Of all releases together; a release chosen among trials counts every trial."""
        return gdp.compose([(r.mu or 0.0) * r.num_trials**0.5 for r in self.reports])

    def epsilon(self, delta: float) -> float:
        """Of all releases together.

        Raises:
          ValueError: delta outside (0, 1).
        """
        return gdp.gdp_epsilon(self.mu, delta)

    def text(self, delta: float) -> str:
        """The releases and the sum, in lines."""
        rows = [
            f"{i + 1}. mu = {r.mu:.5g}, trials {r.num_trials}, {r.accountant}, {r.guarantee}"
            for i, r in enumerate(self.reports)
        ]
        total = f"all: mu = {self.mu:.5g}, epsilon = {self.epsilon(delta):.5g} at delta = {delta:g}"
        return "\n".join([*rows, total])

    def save(self, path: Path | str) -> None:
        """Writes the ledger as JSON."""
        rows = [report.to_json() for report in self.reports]
        files.write_text(path, json.dumps({"releases": rows}, indent=1) + "\n")


def load(path: Path | str) -> Ledger:
    """Reads a ledger; an absent file is an empty one.

    Raises:
      LedgerError: not a ledger, or one whose releases do not belong together.
    """
    if not Path(path).exists():
        return Ledger()
    try:
        rows = json.loads(Path(path).read_text())["releases"]
        reports = [PrivacyReport(**row) for row in rows]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise LedgerError(f"{path} is not a ledger ({error}).") from None
    return of(reports)


def of(reports: Iterable[PrivacyReport]) -> Ledger:
    """The ledger of these releases.

    Raises:
      LedgerError: see `Ledger.add`.
    """
    ledger = Ledger()
    for report in reports:
        ledger = ledger.add(report)
    return ledger
