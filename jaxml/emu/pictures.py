"""Tables and figures of a study."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core.types import Array
from jaxml.emu.rows import Rows, mean_of
from jaxml.emu.scope import Scope
from jaxml.report import figure
from jaxml.report.recipe import Figure, Table

NAMES = {
    "original": "original encoder",
    "logistic": "logistic regression on it",
    "softmax": "plain softmax",
    "contrastive": "SetFit-style contrast",
    "l2": "L2 softmax",
    "l2+center": "L2 softmax + centres",
    "emu": "+ discriminator, all languages",
    "targeted": "+ discriminator, badly aligned ones",
    "guessed": "... + guessed intents of these",
}


def accuracies(rows: Rows, known: Sequence[str], title: str) -> Table:
    """One line per arm, one column per language: to English, then the means."""
    first = rows.of("original")[0]
    languages = list(first.cross)
    body = []
    for arm in dict.fromkeys(r.arm for r in rows.rows):
        same = rows.of(arm)
        cells = [f"{mean_of(same, 'cross', lang):.1f}" for lang in languages]
        cross = [r.mean("cross", languages[1:]) for r in same]
        mono = statistics.mean(r.mean("mono", languages) for r in same)
        spread = f" ± {statistics.stdev(cross):.1f}" if len(cross) > 1 else ""
        probe = "-" if arm == "logistic" else f"{statistics.mean(r.probe for r in same):.0f}"
        body.append((
            NAMES.get(arm, arm), *cells, f"{statistics.mean(cross):.1f}{spread}",
            "-" if arm == "logistic" else f"{mono:.1f}", probe, str(len(same)),
        ))  # fmt: skip
    head = [f"{lang}{'' if lang in known else '*'} ({first.num[lang]})" for lang in languages]
    columns = ("arm", *head, "mean to English", "mean within", "language probe", "seeds")
    caption = (
        "Accuracy in per cent of the nearest neighbour: queries in the language of the column, "
        "English gallery without the query's own translation (English: leave one out). In "
        "brackets the number of queries; * the encoder was not trained on this language. The "
        "probe tells languages apart from embeddings: lower is better mixed."
    )
    return Table(title, columns, tuple(body), caption)


def rejection(scopes: Sequence[Scope]) -> Table:
    """Means over seeds of what `scope.measure` found."""
    first = scopes[0]
    columns = ("", "AUROC, %", "others rejected, %", "kept, %", "rightly answered, %")

    def cell(name: str) -> str:
        values = [getattr(s, name) for s in scopes]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"

    body = (
        ("original encoder, nearest class mean", cell("auroc_before"), "-", "-", "-"),
        ("specialised, nearest centre", *map(cell, ("auroc", "caught", "kept", "accuracy"))),
    )
    caption = (
        f"CLINC150 test: {first.num_in} sentences of 150 intents and {first.num_out} of none, "
        "neither trained on nor used for the threshold (it keeps 95 % of validation's)."
    )
    return Table("Sentences out of scope", columns, body, caption)


def bars(rows: Rows) -> Figure:
    """Points over the original by language, for three arms."""
    base = rows.of("original")[0]
    languages = [lang for lang in base.cross if lang != "en"]
    shown = [a for a in ("l2+center", "targeted", "guessed") if rows.of(a)]

    def plot(axes: Any) -> None:
        place = np.arange(len(languages))
        for i, arm in enumerate(shown):
            gain = [mean_of(rows.of(arm), "cross", x) - base.cross[x] for x in languages]
            axes.bar(place + 0.27 * (i - 1), gain, 0.26, label=NAMES[arm])
        axes.set_xticks(place, languages)
        axes.axhline(0, color=figure.INK, linewidth=0.8)
        axes.set(ylabel="points over the original")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9)

    caption = "Queries of each language in the English gallery; means over seeds."
    return figure.draw("emu-gain", "What each language gains", caption, plot, (7.2, 3.6))


def curves(rows: Sequence[Mapping[str, float]], num_languages: int) -> Figure:
    """How well the discriminator does along one run."""
    steps = [r["step"] for r in rows]
    series = {
        "discriminator": (steps, [100 * r["disc_accuracy"] for r in rows]),
        "chance": (steps, [100 / num_languages] * len(steps)),
    }
    caption = (
        "Languages it finds, in per cent of a balanced batch; the encoder works against it with "
        "badly aligned languages only."
    )
    return figure.lines(
        "emu-discriminator", "Discriminator against encoder", caption, series, x="steps", y="%"
    )


def tsne(x_nd: np.ndarray, *, perplexity: float = 20.0, steps: int = 400, seed: int = 0) -> Array:
    """t-SNE (van der Maaten and Hinton 2008) of a few hundred points, [n, 2]; exact, one scan.

    Args:
      x_nd: points.
      perplexity: effective number of neighbours, below n.
      steps: of gradient descent with momentum; a fifth of them with exaggeration.
      seed: of the start.
    """
    x = jnp.asarray(x_nd, jnp.float32)
    n = x.shape[0]
    far = jnp.sum((x[:, None] - x[None]) ** 2, -1) + 1e9 * jnp.eye(n)

    def conditional(beta_n: Array) -> Array:
        return jax.nn.softmax(-far * beta_n[:, None], -1)

    def bisect(bounds: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = bounds
        middle = jnp.sqrt(low * high)
        p = conditional(middle)
        entropy = -jnp.sum(p * jnp.log(jnp.maximum(p, 1e-30)), -1)
        wide = entropy > jnp.log(perplexity)
        return (jnp.where(wide, middle, low), jnp.where(wide, high, middle)), None

    begin = (jnp.full(n, 1e-4), jnp.full(n, 1e4))
    (low, high), _ = jax.lax.scan(bisect, begin, length=50)
    p = conditional(jnp.sqrt(low * high))
    p = jnp.maximum((p + p.T) / (2 * n), 1e-12)

    def kl(y: Array, p: Array) -> Array:
        q = 1 / (1 + jnp.sum((y[:, None] - y[None]) ** 2, -1)) * (1 - jnp.eye(n))
        return jnp.sum(p * (jnp.log(p) - jnp.log(jnp.maximum(q / q.sum(), 1e-12))))

    def move(carry: tuple[Array, ...], i: Array) -> tuple[tuple[Array, ...], None]:
        y, speed, gain = carry
        early = i < steps // 5
        slope = jax.grad(kl)(y, jnp.where(early, 12.0, 1.0) * p)
        gain = jnp.where(slope * speed < 0, gain + 0.2, jnp.maximum(0.8 * gain, 0.01))
        speed = jnp.where(early, 0.5, 0.8) * speed - max(n / 12, 50.0) * gain * slope
        y = y + speed
        return (y - y.mean(0, keepdims=True), speed, gain), None

    y = 1e-4 * jax.random.normal(jax.random.key(seed), (n, 2))
    start = (y, jnp.zeros_like(y), jnp.ones_like(y))
    (y, *_), _ = jax.lax.scan(move, start, jnp.arange(steps))
    return y


def maps(
    before: np.ndarray,
    after: np.ndarray,
    label: np.ndarray,
    lang: np.ndarray,
    names: Sequence[str],
    intents: Sequence[str],
) -> list[Figure]:
    """t-SNE before and after; colour by intent, marker by language.

    Args:
      before: embeddings [n, d].
      after: of the same sentences.
      label: intents [n]; the five most frequent have a colour of their own.
      lang: places in `names` [n].
      names: languages, three at most.
      intents: by label.
    """
    often = np.argsort(-np.bincount(label), kind="stable")[:5]
    colour = {int(k): c for k, c in zip(often, figure.COLOURS, strict=False)}
    found = []
    for id, title, x in (("before", "Before", before), ("after", "After", after)):
        y = np.asarray(_tsne(x))

        def plot(axes: Any, y: np.ndarray = y) -> None:
            for k, marker in zip(range(len(names)), "o^s", strict=False):
                shown = [colour.get(int(c), figure.COLOURS[-1]) for c in label[lang == k]]
                axes.scatter(*y[lang == k].T, c=shown, marker=marker, s=14, alpha=0.8)
                axes.scatter([], [], c=figure.INK, marker=marker, label=names[k])
            for k, c in colour.items():
                axes.scatter([], [], c=c, marker="o", label=intents[k])
            axes.set(xticks=[], yticks=[])
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)

        caption = "t-SNE of test sentences: colour = intent (grey: all others), marker = language."
        found.append(figure.draw(f"emu-{id}", f"{title} specialisation", caption, plot, (7.2, 3.6)))
    return found


_tsne = jax.jit(tsne)
