"""Likelihoods of continuations against sums of log-softmax in NumPy; tasks of the harness."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from jaxml.inputs.tokenizer import CharTokenizer
from jaxml.tnl import Generator, harness, model, scoring
from jaxml.tnl.config import TNLConfig
from tests.tnl import oracle

LM = model.language_model(TNLConfig(19, 16, 1, 2, 24, init_std=0.3))
WORDS = CharTokenizer.of("abcdefghijklmnop \n?")


@pytest.fixture(scope="module")
def params():
    return oracle.drawn(LM)


_LOGITS = jax.jit(lambda p, ids: LM.logits(p, LM.hidden(p, ids)))


def _nats(params, context, continuation):
    """In float64 from the logits of the whole sequence."""
    ids = np.asarray([*context, *continuation])
    padded = np.zeros((1, 8), np.int32)
    padded[0, : len(ids) - 1] = ids[:-1]
    logits = np.asarray(_LOGITS(params, padded), np.float64)[0, : len(ids) - 1]
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    part = np.arange(len(context) - 1, len(ids) - 1)
    told = log[part, ids[1:][part]].sum()
    return told, bool((logits[part].argmax(-1) == ids[1:][part]).all())


def test_scores_are_sums_of_log_probabilities(params, monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK", 2)  # four pieces of each row
    draw = np.random.default_rng(0)
    pairs = [
        (draw.integers(0, 19, 6).tolist(), draw.integers(0, 19, n).tolist()) for n in (1, 3, 2)
    ]
    best = int(_LOGITS(params, np.asarray([[*pairs[0][0], 0, 0]]))[0, 5].argmax())
    pairs.append((pairs[0][0], [best]))
    found = scoring.score(LM, params, pairs, rows=2)
    for (context, continuation), one in zip(pairs, found, strict=True):
        nats, greedy = _nats(params, context, continuation)
        assert one.nats == pytest.approx(nats, rel=1e-5)
        assert one.greedy == greedy
    assert found[-1].greedy
    with pytest.raises(ValueError, match="a context must hold one token or more"):
        scoring.score(LM, params, [([], [1])])


def test_context_and_continuation_are_tokenised_together(params):
    generator = Generator(LM, params, WORDS)
    before, after = harness.split(generator, "a bad ", "cab")
    assert WORDS.decode(before) == "a bad"
    assert WORDS.decode(after) == " cab"
    assert WORDS.decode(harness.split(generator, "", "cab")[0]) == "\n"


HERE = importlib.util.find_spec("lm_eval") is not None


@pytest.mark.skipif(HERE, reason="the harness is installed")
def test_without_the_harness_one_line_says_how_to_get_it(params):
    with pytest.raises(ImportError, match=r"pip install 'jaxml-lab\[eval\]'"):
        harness.wrap(Generator(LM, params, WORDS))


TASK = """
task: tiny_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
{more}
metadata: {{version: 1}}
"""
MORE = {
    "multiple_choice": 'doc_to_choice: "{{choices}}"\ndoc_to_target: "{{answer}}"\n'
    "metric_list: [{metric: acc}]",
    "generate_until": 'doc_to_target: "{{written}}"\ngeneration_kwargs: {until: ["\\n"], '
    "max_gen_toks: 4}\nmetric_list: [{metric: exact_match}]",
    "loglikelihood_rolling": 'doc_to_target: "{{question}}"\n'
    "metric_list: [{metric: bits_per_byte}]",
}


@pytest.mark.skipif(not HERE, reason="needs the package lm-eval (extra eval)")
@pytest.mark.filterwarnings("ignore")
def test_tasks_of_the_harness(params, tmp_path):
    import lm_eval
    from lm_eval.tasks import TaskManager

    generator = Generator(LM, params, WORDS)
    asked = ["a bad", "deaf", "ink"]
    choices = [[" cab", " hen"], [" goon", " k"], [" a", " on"]]
    docs = []
    for question, options in zip(asked, choices, strict=True):
        best = [
            scoring.score(LM, params, [harness.split(generator, question, o)])[0].nats
            for o in options
        ]
        written = generator.generate([question], num_tokens=4, temperature=0, stop=["\n"])[0]
        docs.append(
            {
                "question": question,
                "choices": options,
                "answer": int(np.argmax(best)),
                "written": written,
            }
        )
    docs[2]["answer"] = 1 - docs[2]["answer"]  # one that must be wrong
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, docs)) + "\n")
    for kind, more in MORE.items():
        text = TASK.format(kind=kind, data=tmp_path / "docs.jsonl", more=more)
        (tmp_path / f"{kind}.yaml").write_text(text)
    found = lm_eval.simple_evaluate(
        model=harness.wrap(generator, rows=2),
        tasks=[f"tiny_{kind}" for kind in MORE],
        task_manager=TaskManager(include_path=str(tmp_path)),
    )["results"]
    assert found["tiny_multiple_choice"]["acc,none"] == pytest.approx(2 / 3)
    assert found["tiny_generate_until"]["exact_match,none"] == 1.0
    pairs = [harness.split(generator, "", question) for question in asked]
    nats = sum(one.nats for one in scoring.score(LM, params, pairs))
    want = -nats / sum(map(len, asked)) / np.log(2)
    assert found["tiny_loglikelihood_rolling"]["bits_per_byte,none"] == pytest.approx(want)
