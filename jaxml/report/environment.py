"""What a result was measured on: versions, devices, commit."""

import datetime
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax", "orbax-checkpoint", "grain")


def describe() -> dict[str, Any]:
    """Devices, versions, date and commit of this run; holds no path and no host name."""
    import jax

    devices = jax.devices()
    return {
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "platform": devices[0].platform,
        "cpu_cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"jaxml": _version("jaxml-lab"), **{p: _version(p) for p in PACKAGES}},
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit of this code, `+` if it was changed since.

    What `JAXML_COMMIT` says, for copies on another machine; else that of the checkout this code
    lies in; else a file `COMMIT` beside the package; else "unknown".
    """
    root = Path(__file__).resolve().parents[2]
    told = os.environ.get("JAXML_COMMIT")
    return told or _of_checkout(root) or _text(root / "COMMIT") or "unknown"


def _of_checkout(root: Path) -> str:
    def git(*words: str) -> str:
        run = ["git", "-C", str(root), *words]
        return subprocess.run(run, capture_output=True, text=True, timeout=10, check=True).stdout

    try:
        if Path(git("rev-parse", "--show-toplevel").strip()).resolve() != root:
            return ""
        head = git("rev-parse", "--short=12", "HEAD").strip()
        return head + ("+" if git("status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _text(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""
