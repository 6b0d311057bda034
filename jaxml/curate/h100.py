"""Effects of data on real trainings, from a bare command line: `python -m jaxml.curate.h100`.

    python -m jaxml.curate.h100 --pack data.npz.xz        # where the corpus is; needs the CPU only
    python -m jaxml.curate.h100 data.npz.xz OUT --minutes 9

Needs jax, numpy, scipy, optax and flax. Every study is a file in OUT; called again with the same
OUT, only studies that are missing are run. The rules of the claims are in `effect_claims`.
"""

import argparse
import dataclasses
import io
import json
import lzma
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import files, lines
from jaxml.curate import effect_claims, effects, recipe, survey
from jaxml.curate.effects import Trainer, TrainerConfig
from jaxml.report import environment
from jaxml.report.progress import say

type Data = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
      width: of the model of repetition, DoReMi, selection and memorisation (10M parameters).
      num_layers: of it.
      num_heads: of it.
      small_width: of the models of the mixing law.
      repeat_bytes: read by every run of the repetition study.
      doremi_bytes: read by every training of DoReMi.
      select_bytes: read by both runs of the selection study.
      mix_bytes: read by each of 26 runs of the mixing law.
      memory_bytes: read by both runs of the memorisation study.
      epochs: of the repetition study, in the order they are run.
      dtype: of the computation.
    """

    width: int = 384
    num_layers: int = 6
    num_heads: int = 3
    small_width: int = 128
    repeat_bytes: float = 60e6
    doremi_bytes: float = 20e6
    select_bytes: float = 16e6
    mix_bytes: float = 6e6
    memory_bytes: float = 30e6
    epochs: tuple[float, ...] = (1, 4, 14, 40, 7, 2)
    dtype: str = "bfloat16"


FULL = Sizes()
TINY = Sizes(32, 1, 1, 16, 3e3, 3e3, 3e3, 1e3, 3e3, (1, 4, 14), "float32")


def _flat(data: Data, name: str, split: str) -> np.ndarray:
    return data[f"{name}/{split}"]


def _names(data: Data) -> list[str]:
    return sorted({key.split("/")[0] for key in data if key.endswith("/train")})


class Study:
    """The packed bytes, and a trainer for each model."""

    def __init__(self, data: Data, sizes: Sizes, cfg: TrainerConfig, out: Path, until: float):
        """Takes the folder of results, and the time after which nothing is begun."""
        self.data, self.sizes, self.cfg, self.out, self.until = data, sizes, cfg, out, until
        self.big = Trainer(recipe.byte_model(sizes.width, sizes.num_layers, sizes.num_heads,
                                             dtype=sizes.dtype), cfg)  # fmt: skip
        self.small = self._model(sizes.small_width, 2)

    def _model(self, width: int, num_layers: int) -> Trainer:
        heads = max(width // 128, 1)
        return Trainer(
            recipe.byte_model(width, num_layers, heads, dtype=self.sizes.dtype), self.cfg
        )

    def rows(self, name: str, split: str = "train") -> np.ndarray:
        """Rows of a domain."""
        return effects.rows_of(_flat(self.data, name, split), self.cfg.seq_len)

    def everything(self, split: str) -> np.ndarray:
        """Rows of all domains in a fixed random order."""
        rows = np.concatenate([self.rows(name, split) for name in _names(self.data)])
        return rows[np.random.default_rng(0).permutation(len(rows))]

    def repetition(self) -> dict[str, Any]:
        """Epochs of the same number of bytes; then the law of the study's own runs.

        Runs are kept one by one; without the last of them there is no law yet.
        """
        rows, test = self.everything("train"), self.everything("test")
        size = min(self.sizes.repeat_bytes, len(rows) * self.cfg.seq_len)
        kept = self.out / "repetition.jsonl"
        done = {(r["width"], r["n_tokens"], r["epochs"]): r for r in lines.read(kept)}
        width, smaller = self.sizes.width, (self.sizes.small_width, 2 * self.sizes.small_width)
        repeated = [(width, size, float(number)) for number in self.sizes.epochs]
        fresh = [(w, size / share, 1.0) for w in smaller for share in (1, 2, 4)]
        trainers = {width: self.big}
        # epochs that claims are about, then what the law needs, then the rest
        for run in (*repeated[:3], *fresh, *repeated[3:]):
            if run in done or time.monotonic() > self.until:
                continue
            model = trainers.setdefault(run[0], self._model(run[0], self.sizes.num_layers))
            (found,) = effects.repetition(model, rows, test, run[1], run[2:])
            done[run] = {"width": run[0], **found}
            lines.append(kept, done[run])
            say(f"width {run[0]}, {run[1]:.0f} bytes, {run[2]:g} epochs: {found['loss']:.4f}")
        runs, new = ([done[run] for run in part if run in done] for part in (repeated, fresh))
        if lacking := len(repeated) + len(fresh) - len(runs) - len(new):
            return {"runs": runs, "fresh": new, "lacking": lacking}
        law = effects.repetition_law([*new, done[repeated[0]]], runs)
        return {"runs": runs, "fresh": new, **law}

    def doremi(self) -> dict[str, Any]:
        """Two rounds from a mixture of which one domain has 70 %."""
        names = _names(self.data)[:8]
        first = np.full(len(names), 0.3 / (len(names) - 1))
        first[0] = 0.7
        rows, tests = ({n: self.rows(n, split) for n in names} for split in ("train", "test"))
        rounds = effects.doremi_rounds(self.big, rows, tests, first.tolist(),
                                       self.sizes.doremi_bytes)  # fmt: skip
        return {"rounds": rounds}

    def selection(self) -> dict[str, Any]:
        """DSIR's tenth of the pool beside a random tenth, by the loss on the target."""
        choices = {name: effects.rows_of(self.data[f"{name}_tenth"], self.cfg.seq_len)
                   for name in ("dsir", "random")}  # fmt: skip
        test = effects.rows_of(self.data["dsir_target"], self.cfg.seq_len)
        return {"loss": effects.selection(self.big, choices, test, self.sizes.select_bytes)}

    def mixing(self) -> dict[str, Any]:
        """A mixing law of 20 small runs that predicts 6."""
        names = [n for n in survey.MIXED if n in _names(self.data)]
        rows, tests = ([self.rows(n, split) for n in names] for split in ("train", "test"))
        found = effects.mixing(self.small, rows, tests, self.sizes.mix_bytes)
        return {"names": names, **found}

    def memorisation(self) -> dict[str, Any]:
        """Planted copies before and after exact substrings are struck."""
        before, after = (effects.rows_of(self.data[f"memory_{name}"], self.cfg.seq_len)
                         for name in ("before", "after"))  # fmt: skip
        return effects.memorisation(
            self.big, before, after, self.data["canaries"], self.sizes.memory_bytes
        )


STUDIES: dict[str, Callable[[Study], dict[str, Any]]] = {
    name: getattr(Study, name)
    for name in ("memorisation", "selection", "doremi", "mixing", "repetition")
}


def run(study: Study, names: list[str]) -> dict[str, dict[str, Any]]:
    """Runs the studies that have no whole file yet; none is begun after the study's time."""
    found = {}
    for name in names:
        path = study.out / f"{name}.json"
        whole = path.exists() and "lacking" not in json.loads(path.read_text())
        if not whole and time.monotonic() < study.until:
            begun = time.monotonic()
            result = STUDIES[name](study)
            result["seconds"] = time.monotonic() - begun
            files.write_text(path, json.dumps(result, indent=1) + "\n")
        if not path.exists():
            say(f"no time for {name}")
            continue
        found[name] = json.loads(path.read_text())
        say(f"{name}: {found[name]['seconds']:.0f} s, {effect_claims.line(name, found[name])}")
    return found


def _save(path: Path, data: Data) -> None:
    whole = {"dict_size": 1 << 27, "id": lzma.FILTER_LZMA2, "preset": 6}
    with files.aside(path) as aside, lzma.open(aside, "wb", filters=[whole]) as handle:
        np.savez(handle, **data)  # pyright: ignore[reportArgumentType]
    say(f"{path}: {sum(a.nbytes for a in data.values()) / 1e6:.0f} MB of arrays, "
        f"{path.stat().st_size / 1e6:.0f} MB")  # fmt: skip


def _load(content: bytes) -> Data:
    with np.load(io.BytesIO(content), allow_pickle=False) as kept:
        return dict(kept)


def main(words: list[str] | None = None) -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("."))
    parser.add_argument("--pack", action="store_true", help="write DATA from the corpus instead")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, to see that it runs")
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    args = parser.parse_args(words)
    if args.pack:
        _save(args.data, survey.pack(say, limit=20_000 if args.tiny else None))
        return
    until = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    with lzma.open(args.data) as packed:
        data = _load(packed.read())
    cfg = TrainerConfig(32, 4, eval_rows=16) if args.tiny else TrainerConfig()
    sizes = TINY if args.tiny else FULL
    found = run(Study(data, sizes, cfg, args.out, until), args.studies)
    about = environment.describe()
    kept = {name: about[name] for name in ("device", "versions", "date", "commit", "command")}
    scale = "tiny" if args.tiny else "h100"
    decided = [c.to_json() for n in found for c in effect_claims.decide(n, found[n], scale)]
    record = {**kept, "sizes": dataclasses.asdict(sizes), "claims": decided, "studies": found}
    files.write_text(args.out / "curate-effects.json", json.dumps(record, indent=1) + "\n")
    say("done")


if __name__ == "__main__":
    main()
