"""`jaxml doctor`: what this machine has, and what jaxml would use of it."""

import jax
from rich.console import Console
from rich.table import Table

from jaxml.inputs import source
from jaxml.report import environment
from jaxml_kernels.lightning_attention import api, cases, problem


def _devices(say: Console) -> None:
    about = environment.describe()
    say.print(f"[bold]devices[/]   {about['device']} ({about['platform']})")
    say.print(f"[bold]machine[/]   {about['cpu_cores']} CPU cores, {about['system']}")
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    say.print(f"[bold]versions[/]  Python {about['python']}, {versions}", soft_wrap=True)
    say.print(f"[bold]commit[/]    {about['commit']}")


def _kernels() -> Table:
    table = Table(title="kernels", title_justify="left")
    for name in ("op", "case", "implementation"):
        table.add_column(name, no_wrap=True)
    table.add_column("why")
    device = jax.devices()[0]
    for case in (cases.training(4096), cases.training(4096, num_heads=32, width=64)):
        spec = problem.Problem(
            case.batch,
            case.seq_len,
            case.num_heads,
            case.key_width,
            case.value_width,
            case.dtype,
            packed=False,
            platform=device.platform,
            device_kind=device.device_kind,
        )
        verdicts = api.explain(spec)
        chosen = next(v.name for v in verdicts if v.reason is None)
        for verdict in verdicts:
            used = "[green]used[/]" if verdict.name == chosen else "can run"
            table.add_row("lightning_attention", case.name, verdict.name, verdict.reason or used)
    return table


def _data() -> Table:
    table = Table("data set", "found", "used by", title="data", title_justify="left")
    for dataset in source.SETS.values():
        try:
            where = f"[green]{source.find(dataset).how}[/]"
        except source.DataNotFoundError:
            where = "[yellow]not found[/]"
        except source.DataCorruptError as error:
            where = f"[red]{error}[/]"
        table.add_row(dataset.name, where, ", ".join(dataset.used_by))
    return table


def main() -> None:
    """Prints devices, versions, which kernel implementation each op would use and why, and data.

    A data set that is missing is no error: recipes fall back or say what to get.
    """
    say = Console()
    _devices(say)
    say.print(_kernels())
    say.print(_data())
