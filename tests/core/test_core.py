import dataclasses
import json
import os
import subprocess
import sys
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg as scipy_linalg

from jaxml.core import check, config, files, linalg, lines, param, rng, tree, weights


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    kinds: tuple[str, ...] = ("a",)


@dataclasses.dataclass(frozen=True)
class Outer:
    width: int = 4
    mode: Literal["x", "y"] = "x"
    clip: float | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)

    def __post_init__(self):
        check.types(self)
        check.positive(width=self.width)


class TestLines:
    def test_half_a_line_is_not_read_and_gives_way(self, tmp_path):
        path = tmp_path / "new" / "rows.jsonl"
        assert lines.read(path) == []
        lines.append(path, {"a": 1})
        lines.append(path, {"b": "\u00e9"})
        with path.open("a") as torn:
            torn.write('{"c": {"d": 1}')
        assert lines.read(path) == [{"a": 1}, {"b": "\u00e9"}]
        lines.append(path, {"e": 2})
        assert lines.read(path) == [{"a": 1}, {"b": "\u00e9"}, {"e": 2}]

    def test_a_whole_line_that_is_no_object_is_named(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"a": 1}\n[2]\n')
        with pytest.raises(ValueError, match=r"line 2: must be a JSON object; got b'\[2\]'"):
            lines.read(path)


class TestConfig:
    def test_round_trip(self, tmp_path):
        cfg = Outer(7, "y", 2.5, Inner(1.0, ("b", "c")))
        config.save(cfg, tmp_path / "config.json")
        assert config.load(Outer, tmp_path / "config.json") == cfg
        assert config.from_dict(Outer, {"inner": {"rate": 1}}).inner.rate == 1.0

    def test_fingerprint_follows_every_value(self):
        cfgs = [Outer(), Outer(5), Outer(clip=1.0), Outer(inner=Inner(0.2)), Outer(mode="y")]
        assert len({config.fingerprint(c) for c in cfgs}) == len(cfgs)
        assert config.fingerprint(Outer()) == config.fingerprint(Outer(4))

    def test_text(self):
        text = config.text(Outer())
        assert text.splitlines()[0] == "width = 4"
        assert "inner.kinds = ('a',)" in text

    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            ({"widht": 3}, ValueError, r"Outer has no field 'widht' \(did you mean 'width'\?\)"),
            ({"width": "3"}, TypeError, "Outer.width must be int; got width='3'"),
            ({"width": True}, TypeError, "Outer.width must be int; got width=True"),
            ({"width": 0}, ValueError, "width must be > 0; got width=0"),
            ({"mode": "z"}, TypeError, "Outer.mode must be"),
        ],
    )
    def test_bad_values(self, values, error, message):
        with pytest.raises(error, match=message):
            config.from_dict(Outer, values)

    def test_bad_files(self, tmp_path):
        path = tmp_path / "config.json"
        config.save(Inner(), path)
        with pytest.raises(ValueError, match="holds a Inner; expected Outer"):
            config.load(Outer, path)
        path.write_text("[1")
        with pytest.raises(ValueError, match="is not a saved configuration"):
            config.load(Outer, path)


class TestCheck:
    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
    def test_positive(self, value):
        with pytest.raises(ValueError, match="rate must be > 0"):
            check.positive(rate=value)

    def test_ranges(self):
        check.between(0, 1, p=0), check.between(0, 1, p=1), check.at_least(0, n=0)
        with pytest.raises(ValueError, match=r"p must lie in \[0, 1\]; got p=1.1"):
            check.between(0, 1, p=1.1)
        with pytest.raises(ValueError, match="n must be >= 0; got n=-1"):
            check.at_least(0, n=-1)
        with pytest.raises(ValueError, match="rule must be one of a, bb; got rule='bbb'.*'bb'"):
            check.one_of(("a", "bb"), rule="bbb")

    def test_shape(self):
        assert check.shape("x", np.zeros((2, 3, 3)), ["b", "n", "n"]) == {"b": 2, "n": 3}
        for pattern in (["b", "n"], ["b", "n", "b"], [3, "n", "n"]):
            with pytest.raises(ValueError, match="x must have shape"):
                check.shape("x", np.zeros((2, 3, 3)), pattern)


class TestFiles:
    def test_a_failed_write_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.txt"
        files.write_text(path, "old")
        with pytest.raises(RuntimeError), files.aside(path) as part:
            part.write_text("half")
            raise RuntimeError
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["a.txt"]

    def test_a_second_process_is_told(self, tmp_path):
        code = (
            "import sys; from jaxml.core import files\n"
            "try:\n  with files.lock(sys.argv[1]): print('got it')\n"
            "except files.FolderInUseError as e: print(e)"
        )
        run = [sys.executable, "-c", code, str(tmp_path)]
        with files.lock(tmp_path):
            second = subprocess.run(run, capture_output=True, text=True).stdout
        assert f"is being written by process {os.getpid()}" in second
        assert subprocess.run(run, capture_output=True, text=True).stdout == "got it\n"


class TestParam:
    declared = {
        "a": param.Param((2, 3), ("embed", None), jax.nn.initializers.normal()),
        "b": {"c": param.Param((4,), ("mlp",), jax.nn.initializers.zeros, jnp.bfloat16)},
    }

    def test_arrays_follow_the_declaration(self, key):
        made = param.init(key, self.declared)
        like = param.abstract(self.declared)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), made) == jax.tree.map(
            lambda x: (x.shape, x.dtype), like
        )
        assert param.axes(self.declared)["a"] == ("embed", None)

    def test_a_new_leaf_changes_no_other(self, key):
        more = {**self.declared, "aa": self.declared["a"]}
        a, b = param.init(key, self.declared)["a"], param.init(key, more)
        np.testing.assert_array_equal(a, b["a"])
        assert not np.array_equal(b["a"], b["aa"])

    def test_stack(self, key):
        stacked = param.stack(self.declared, 5)
        made = param.init(key, stacked)["a"]
        assert made.shape == (5, 2, 3)
        assert stacked["a"].axes == ("layers", "embed", None)
        assert len({float(x) for x in made[:, 0, 0]}) == 5

    def test_axes_must_fit(self):
        with pytest.raises(ValueError, match="axes must name every dimension"):
            param.Param((2, 3), ("embed",), jax.nn.initializers.zeros)


class TestTree:
    def test_paths(self):
        nested = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
        flat = tree.flatten(nested)
        assert flat == {"a/b": 1, "a/c/d": 2, "e": 3}
        assert tree.unflatten(flat) == nested
        assert tree.map_with_path(lambda p, x: f"{p}={x}", nested)["a"]["c"]["d"] == "a/c/d=2"

    def test_cast_and_sizes(self):
        arrays = {"x": jnp.ones((2, 3)), "i": jnp.ones(4, jnp.int32)}
        half = tree.cast(arrays, jnp.bfloat16)
        assert (half["x"].dtype, half["i"].dtype) == (jnp.bfloat16, jnp.int32)
        assert (tree.num_elements(arrays), tree.num_bytes(half)) == (10, 28)

    def test_mismatch_names_every_path(self):
        got = {"a": jnp.ones(2), "c": jnp.ones(1)}
        want = {"a": jnp.ones(3), "b": jnp.ones(1)}
        message = r"missing b; unexpected c; a has shape \(2,\), expected \(3,\)"
        with pytest.raises(ValueError, match=message):
            tree.check_match(got, want)


def test_keys_by_name(key):
    draws = {n: float(jax.random.uniform(rng.fold(key, n))) for n in ("a", "b")}
    assert draws["a"] != draws["b"]
    traced = jax.jit(lambda i: jax.random.uniform(rng.fold(key, "x", i)))
    assert float(traced(3)) == float(jax.random.uniform(rng.fold(key, "x", 3)))


class TestLinalg:
    def test_procrustes(self):
        rng_ = np.random.default_rng(0)
        x, y = rng_.standard_normal((2, 30, 5))
        want, _ = scipy_linalg.orthogonal_procrustes(x, y)
        np.testing.assert_allclose(linalg.procrustes(jnp.array(x), jnp.array(y)), want, atol=1e-5)
        with pytest.raises(ValueError, match="target_nd must have shape"):
            linalg.procrustes(jnp.zeros((3, 2)), jnp.zeros((3, 3)))

    def test_kmeans_finds_clear_clusters(self, key):
        rng_ = np.random.default_rng(0)
        centres = np.array([[0, 0], [10, 0], [0, 10]])
        labels = rng_.integers(0, 3, 120)
        points = centres[labels] + rng_.standard_normal((120, 2)) * 0.3
        found = jax.jit(linalg.kmeans, static_argnums=2)(key, jnp.array(points), 3)
        pairs = {(int(a), int(b)) for a, b in zip(labels, found.labels, strict=True)}
        assert len(pairs) == 3
        order = [next(b for a, b in pairs if a == i) for i in range(3)]
        np.testing.assert_allclose(found.centres[jnp.array(order)], centres, atol=0.2)
        near = np.linalg.norm(points - np.asarray(found.centres)[np.asarray(found.labels)], axis=1)
        np.testing.assert_allclose(found.inertia, (near**2).mean(), rtol=1e-3)
        with pytest.raises(ValueError, match="num_clusters must lie in"):
            linalg.kmeans(key, jnp.zeros((3, 2)), 4)

    @pytest.mark.parametrize("block", [1, 7, 16, 100])
    def test_top_k_in_blocks(self, block):
        rng_ = np.random.default_rng(0)
        q, g = rng_.standard_normal((5, 4)), rng_.standard_normal((33, 4))
        scores, rows = linalg.top_k(jnp.array(q), jnp.array(g), 6, block=block)
        want = np.argsort(-(q @ g.T), axis=1)[:, :6]
        np.testing.assert_array_equal(rows, want)
        np.testing.assert_allclose(scores, np.take_along_axis(q @ g.T, want, 1), rtol=1e-5)

    def test_top_k_breaks_ties_by_row(self):
        _, rows = linalg.top_k(jnp.ones((1, 2)), jnp.ones((9, 2)), 4, block=2)
        assert rows.tolist() == [[0, 1, 2, 3]]


class TestWeights:
    rules = [
        weights.Rule("emb.weight", "embed"),
        weights.linear("h.{i}.w.weight", "layers/kernel"),
    ]
    target = {
        "embed": jax.ShapeDtypeStruct((3, 2), jnp.float32),
        "layers": {"kernel": jax.ShapeDtypeStruct((2, 4, 5), jnp.float32)},
    }

    def foreign(self):
        rng_ = np.random.default_rng(0)
        return {
            "emb.weight": rng_.standard_normal((3, 2)).astype(np.float32),
            **{f"h.{i}.w.weight": rng_.standard_normal((5, 4)).astype(np.float32) for i in (0, 1)},
        }

    def test_round_trip_is_exact(self, tmp_path):
        theirs = self.foreign()
        weights.write(tmp_path / "w.safetensors", theirs, {"format": "pt"})
        read = weights.read(tmp_path)
        ours = weights.import_tree(read, self.rules, self.target)
        np.testing.assert_array_equal(ours["layers"]["kernel"][1], theirs["h.1.w.weight"].T)
        back = weights.export_tree(ours, self.rules)
        assert set(back) == set(theirs)
        assert all(np.array_equal(back[n], theirs[n]) for n in theirs)

    def test_scalars_keep_their_shape(self, tmp_path):
        weights.write(tmp_path / "w.safetensors", {"step": jnp.int32(7)})
        assert weights.read(tmp_path)["step"].shape == ()

    def test_every_problem_is_named(self):
        bad = self.foreign()
        del bad["emb.weight"]
        bad["extra"] = np.zeros(1)
        bad["h.0.w.weight"] = np.zeros((4, 4), np.float32)
        message = (
            r"missing emb.weight; h.0.w.weight has shape \(4, 4\), .* expected \(4, 5\); "
            "unexpected extra"
        )
        with pytest.raises(weights.WeightsError, match=message):
            weights.import_tree(bad, self.rules, self.target)
        fine = {**self.foreign(), "extra": np.zeros(1)}
        weights.import_tree(fine, self.rules, self.target, ignore=lambda n: n == "extra")
        with pytest.raises(weights.WeightsError, match="no rule for our embed"):
            weights.import_tree(self.foreign(), self.rules[1:], self.target)

    def test_shards(self, tmp_path):
        theirs = self.foreign()
        names = list(theirs)
        for i, part in enumerate((names[:1], names[1:])):
            weights.write(tmp_path / f"s{i}.safetensors", {n: theirs[n] for n in part})
        where = {n: "s0.safetensors" if n in names[:1] else "s1.safetensors" for n in names}
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": where}))
        assert set(weights.read(tmp_path)) == set(theirs)
        index.write_text(json.dumps({"weight_map": {**where, "ghost": "s0.safetensors"}}))
        with pytest.raises(
            weights.WeightsError, match="promises tensors that no shard holds: ghost"
        ):
            weights.read(tmp_path)
        (tmp_path / "s1.safetensors").unlink()
        with pytest.raises(FileNotFoundError, match="s1.safetensors does not exist"):
            weights.read(index)

    def test_damage(self, tmp_path):
        path = tmp_path / "w.safetensors"
        weights.write(path, self.foreign())
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(weights.WeightsError, match="is not an intact safetensors file"):
            weights.read(path)
        with pytest.raises(FileNotFoundError, match="holds no .safetensors file"):
            (tmp_path / "empty").mkdir()
            weights.read(tmp_path / "empty")
