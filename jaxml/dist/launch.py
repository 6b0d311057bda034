"""One process per device of this machine: `python -m jaxml.dist.launch 8 COMMAND ...`.

Every process sees one GPU and finds the others by the environment (`processes.VARIABLES`), so that
a program which calls `processes.start()` needs no arguments.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from jaxml.core import check
from jaxml.dist.processes import VARIABLES


def environments(num: int, base: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """The environment of each of `num` processes that join each other on this machine.

    Raises:
      ValueError: fewer visible GPUs than processes.

    >>> [e["JAX_PROCESS_ID"] for e in environments(2, {"CUDA_VISIBLE_DEVICES": "4,6"})]
    ['0', '1']
    """
    check.positive(num=num)
    base = os.environ if base is None else base
    visible = base.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(num)))).split(",")
    if len(visible) < num:
        raise ValueError(f"every process needs a GPU; got num={num}, GPUs {','.join(visible)}.")
    address = f"127.0.0.1:{_free_port()}"
    return [
        {
            **base,
            VARIABLES["coordinator"]: address,
            VARIABLES["num_processes"]: str(num),
            VARIABLES["process_id"]: str(index),
            "CUDA_VISIBLE_DEVICES": visible[index],
        }
        for index in range(num)
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(command: Sequence[str], num: int, base: Mapping[str, str] | None = None) -> int:
    """Runs a command in `num` joined processes; where one fails, the others are ended.

    Returns:
      The first exit status that is not 0, or 0.
    """
    workers = [subprocess.Popen(command, env=env) for env in environments(num, base)]
    try:
        while True:
            ended = [worker.poll() for worker in workers]
            if failed := [status for status in ended if status]:
                return failed[0]
            if None not in ended:
                return 0
            time.sleep(0.05)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
                worker.wait()


def main() -> int:
    """Parses `NUMBER COMMAND ...`."""
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        print(__doc__, file=sys.stderr)
        return 2
    return run(sys.argv[2:], int(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
