"""A competitor in a process of its own: a line in, a line of JSON out."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any


class Worker:
    """A running peer.

    Args:
      command: the program and its arguments.
      env: its environment; None is this one's.
      quiet: what it writes to standard error is dropped.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, quiet: bool = False
    ):
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            env=env,
        )

    def tell(self, line: Any) -> bool:
        """Sends one line, as it is or as JSON; False where the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def answer(self) -> Any:
        """The next line it writes; None where the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, line: Any) -> Any:
        """The answer to one line; None where the process has ended."""
        return self.answer() if self.tell(line) else None

    def run(self) -> Any:
        """The answer to `run`.

        Raises:
          RuntimeError: the process has ended.
        """
        answer = self.ask("run")
        if answer is None:
            raise RuntimeError(f"{self._process.args} ended with {self._process.poll()}.")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
