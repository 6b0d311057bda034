"""Bytes of collectives: from texts made by hand and from compiled programs."""

import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from jaxml.dist import mesh, payload, shard

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

LOOP = """HloModule jit_f, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%body (p: (s32[], bf16[16,4])) -> (s32[], bf16[16,4]) {
  %p = (s32[], bf16[16,4]{1,0}) parameter(0)
  %ag = bf16[16,4]{1,0} all-gather(%x), channel_id=1, dimensions={0}
  %rs-start = ((f32[64]{0}), f32[8]{0}) reduce-scatter-start(%y), to_apply=%sum
  %rs-done = f32[8]{0} reduce-scatter-done(%rs-start)
  ROOT %t = (s32[], bf16[16,4]{1,0}) tuple(%i, %ag)
}

%cond (p: (s32[], bf16[16,4])) -> pred[] {
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%wrapped (q: f32[2,3]) -> f32[2,3] {
  ROOT %perm = f32[2,3]{1,0} collective-permute(%q), source_target_pairs={{0,1},{1,0}}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %w = (s32[], bf16[16,4]{1,0}) while(%init), condition=%cond, body=%body, TRIPS
  %async = ((f32[2,3]), f32[2,3]) async-start(%z), calls=%wrapped
  %done = f32[2,3]{1,0} async-done(%async)
  %ar-start = (f32[8]{0}, f8e4m3fn[4]{0}) all-reduce-start(%x, %y), to_apply=%sum
  %ar-done = (f32[8]{0}, f8e4m3fn[4]{0}) all-reduce-done(%ar-start)
  %other-start = ((f32[32]{0}), f32[32]{0}) all-reduce-start(%v), to_apply=%sum
  %other-done = f32[32]{0} all-reduce-done(%other-start)
  ROOT %r = f32[8]{0} get-tuple-element(%ar-done), index=0
}
"""
KNOWN = 'backend_config={"known_trip_count":{"n":"5"}}'


def test_loops_and_operations_under_way_are_counted():
    assert payload.collectives(LOOP.replace("TRIPS", KNOWN)) == {
        "all-gather": 5 * 16 * 4 * 2,
        "reduce-scatter": 5 * 8 * 4,
        "collective-permute": 2 * 3 * 4,
        "all-reduce": 8 * 4 + 4 + 32 * 4,
    }


def test_a_loop_of_unknown_length_is_named():
    with pytest.raises(ValueError, match="loop body holds collectives and runs unknown times"):
        payload.collectives(LOOP.replace("TRIPS", "frontend_attributes={}"))


def test_an_outline_says_as_much_as_the_text():
    text = LOOP.replace("TRIPS", KNOWN)
    short = payload.outline(text)
    assert len(short) < len(text)
    kinds = ("all-gather", "all-reduce", "reduce-scatter", "while", "async-start")
    assert all(f" {kind}" in short for kind in kinds)


def test_a_compiled_program():
    line = mesh.make(mesh.MeshConfig(data=8))

    def local(x):
        def body(total, _):
            return jax.lax.psum(total, "data") / 8, None

        return jax.lax.scan(body, jnp.sum(x, 0), None, length=7)[0], jax.lax.all_gather(x, "data")

    split = jax.shard_map(
        local,
        mesh=line,
        in_specs=PartitionSpec("data"),
        out_specs=(PartitionSpec(), PartitionSpec()),
        check_vma=False,
    )
    x = jax.ShapeDtypeStruct((16, 3), jnp.float32, sharding=shard.replicated(line))
    found = payload.collectives(jax.jit(split).lower(x).compile().as_text() or "")
    assert found == {"all-reduce": 7 * 3 * 4, "all-gather": 16 * 3 * 4}


def test_a_program_of_one_device_sends_nothing():
    text = jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4))).compile().as_text() or ""
    assert payload.collectives(text) == {}


def test_the_published_bytes_are_those_of_the_published_outline():
    """Programs as two H100s ran them: names and lines of collectives, in one file."""
    name = "scaling-385m-h100x2"
    text = gzip.decompress((RESULTS / f"{name}.outline.txt.gz").read_bytes()).decode()
    programs = dict(part.split("\n", 1) for part in text.strip("\n").split("\n\n") if "\n" in part)
    rows = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    sent = {row["case"]: row["jaxml"] for row in rows if row["metric"] == "collective_bytes"}
    assert len([case for case in sent if "seq=2" in case]) == 4
    for case, size in sent.items():
        assert sum(payload.collectives(programs.get(case, "")).values()) == size, case
