"""Several processes of one program: joining, agreeing, and making global batches."""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from jaxml.core import check
from jaxml.core.types import PyTree

VARIABLES = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}
"""The environment variable that stands in for each argument of `start`."""


def start(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> bool:
    """Joins the other processes; call before anything else touches a device.

    What is not given is read from the environment (`VARIABLES`). With nothing given and nothing
    there, this stays a single process. A second call changes nothing.

    Args:
      coordinator: `host:port` of process 0.
      num_processes: how many there are.
      process_id: which one this is, from 0.

    Returns:
      Whether this process is one of several.

    Raises:
      ValueError: some of the three are missing or out of range.
      RuntimeError: devices are already in use, or joined before with another number of processes.
    """
    if jax.distributed.is_initialized():
        if num_processes not in (None, jax.process_count()):
            raise RuntimeError(
                f"already one of {jax.process_count()} processes; "
                f"got num_processes={num_processes}."
            )
        return True
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    found = {k: os.environ.get(VARIABLES[k]) if v is None else v for k, v in given.items()}
    if all(value is None for value in found.values()):
        return False
    address, number, index = _checked(found)
    # The CPU backend has no collectives of its own between processes; others ignore this.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=number, process_id=index)
    return True


def _checked(found: dict[str, str | int | None]) -> tuple[str, int, int]:
    if missing := [name for name, value in found.items() if value is None]:
        rest = " and ".join(f"{name} (or {VARIABLES[name]})" for name in missing)
        raise ValueError(f"several processes need all of {', '.join(found)}; {rest} is missing.")
    address = str(found["coordinator"])
    if not address.rpartition(":")[2].isdigit() or address.startswith(":"):
        raise ValueError(f"coordinator must be host:port; got coordinator={address!r}.")
    try:
        number, index = int(str(found["num_processes"])), int(str(found["process_id"]))
    except ValueError:
        raise ValueError(
            f"num_processes and process_id must be whole numbers; got "
            f"num_processes={found['num_processes']!r}, process_id={found['process_id']!r}."
        ) from None
    check.positive(num_processes=number)
    check.between(0, number - 1, process_id=index)
    return address, number, index


def is_main() -> bool:
    """True in the process that writes files and prints."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here; `name` says where in error messages."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_true(flag: bool) -> bool:
    """Whether the flag is set in any process; every process must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def from_main(value: int) -> int:
    """The main process's number, in every process."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def global_batch(batch: PyTree, sharding: NamedSharding) -> PyTree:
    """One global batch from each process's own rows.

    Args:
      batch: arrays of this process, each [rows / num_processes, ...].
      sharding: of the global arrays, as `shard.batch_sharding` gives it.

    Returns:
      Arrays [rows, ...] over all processes; with one process, the batch placed on its devices.
    """
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )
