"""The policy, its features and the shop, written again in NumPy float64, operation by operation.

Shares no code with the library: graphs are edge lists, quartiles are numpy's, softmaxes are loops.
"""

import numpy as np


def features(machines, durations, version):
    """Static features [n * m, 15] after standardisation."""
    n, m = durations.shape
    top = durations.max()
    cost = durations / top
    rows = []
    for j in range(n):
        for k in range(m):
            on_machine = [
                cost[i, q] for i in range(n) for q in range(m) if machines[i, q] == machines[j, k]
            ]
            if version == "reference":
                on_machine = [x / top for x in on_machine]
            job_q = np.quantile(cost[j], [0.25, 0.5, 0.75])
            machine_q = np.quantile(on_machine, [0.25, 0.5, 0.75])
            total, done = cost[j].sum(), cost[j, : k + 1].sum()
            c = cost[j, k]
            rows.append(
                [
                    *job_q,
                    *machine_q,
                    c,
                    done / total,
                    (total - done + c) / total,
                    *(c - job_q),
                    *(c - machine_q),
                ]
            )
    x = np.asarray(rows, np.float64)
    return (x - x.mean(0)) / (x.std(0, ddof=1) + 1e-6)


def neighbours(machines):
    """In-neighbours of every operation, flat indices."""
    n, m = machines.shape
    flat = machines.reshape(-1)
    found = []
    for o in range(n * m):
        heard = [o - 1] if o % m else []
        heard += [q for q in range(n * m) if q != o and flat[q] == flat[o]]
        found.append(heard)
    return found


def leaky(x, slope=0.15):
    return np.where(x > 0, x, slope * x)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def gat(t, prefix, x, heard, heads, concat):
    """GATv2 as a loop over targets; weights in torch's (out, in) layout."""
    left = x @ t[f"{prefix}.lin_l.weight"].T + t[f"{prefix}.lin_l.bias"]
    right = x @ t[f"{prefix}.lin_r.weight"].T + t[f"{prefix}.lin_r.bias"]
    left, right = (y.reshape(len(x), heads, -1) for y in (left, right))
    att = t[f"{prefix}.att"][0]
    out = np.zeros_like(left)
    for i, sources in enumerate(heard):
        for h in range(heads):
            if sources:
                scores = np.array([att[h] @ leaky(left[j, h] + right[i, h]) for j in sources])
                for weight, j in zip(softmax(scores), sources, strict=True):
                    out[i, h] += weight * left[j, h]
    out = out.reshape(len(x), -1) if concat else out.mean(1)
    return out + t[f"{prefix}.bias"]


def embed(t, machines, durations, version, heads):
    x = features(machines, durations, version)
    heard = neighbours(machines)
    h = np.concatenate([x, np.maximum(gat(t, "enc.embedding1", x, heard, heads, True), 0)], 1)
    h = np.maximum(gat(t, "enc.embedding2", h, heard, heads, False), 0)
    return np.concatenate([x, h], 1)


class Shop:
    """A simulator in Python integers."""

    def __init__(self, machines, durations):
        self.machines, self.durations = machines.tolist(), durations.tolist()
        self.n, self.m = machines.shape
        self.top = int(durations.max())
        self.jobs, self.free, self.next = [0] * self.n, [0] * self.m, [0] * self.n

    def schedule(self, job):
        op = self.next[job]
        machine = self.machines[job][op]
        end = max(self.jobs[job], self.free[machine]) + self.durations[job][op]
        self.jobs[job] = self.free[machine] = end
        self.next[job] += 1

    @property
    def makespan(self):
        return max(self.free)

    def context(self):
        jobs = np.array(self.jobs) / self.top
        free = np.array(self.free) / self.top
        rows = []
        for j in range(self.n):
            need = free[self.machines[j][self.next[j] % self.m]]
            rows.append(
                [
                    jobs[j] - need,
                    *(jobs[j] - np.quantile(jobs, [0.25, 0.5, 0.75])),
                    jobs[j] - jobs.mean(),
                    jobs[j] / (jobs.max() + 1e-5),
                    *(need - np.quantile(free, [0.25, 0.5, 0.75])),
                    need - free.mean(),
                    need / (jobs.max() + 1e-5),
                ]
            )
        return np.array(rows)


def decode(t, embedding, shop, heads):
    """Logits of all jobs, -inf for finished ones."""
    ops = [j * shop.m + shop.next[j] % shop.m for j in range(shop.n)]

    def linear(name, x):
        return x @ t[f"dec.{name}.weight"].T + t[f"dec.{name}.bias"]

    x1 = linear("linear1", shop.context())
    q, k, v = np.split(
        x1 @ t["dec.self_attn.in_proj_weight"].T + t["dec.self_attn.in_proj_bias"], 3, 1
    )
    width = x1.shape[1] // heads
    mixed = np.zeros_like(x1)
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        for i in range(shop.n):
            weight = softmax(
                np.array([q[i, part] @ k[j, part] for j in range(shop.n)]) / np.sqrt(width)
            )
            mixed[i, part] = weight @ v[:, part]
    x2 = np.maximum(linear("linear2", x1 + linear("self_attn.out_proj", mixed)), 0)
    hidden = leaky(linear("linear3", np.concatenate([embedding[ops], x2], 1)))
    logits = linear("linear4", hidden)[:, 0]
    return np.where([shop.next[j] < shop.m for j in range(shop.n)], logits, -np.inf)


def loss(t, machines, durations, seq, version, heads):
    """Mean cross-entropy of all choices but the last."""
    embedding = embed(t, machines, durations, version, heads)
    shop, total = Shop(machines, durations), 0.0
    for job in seq[:-1]:
        logits = decode(t, embedding, shop, heads)
        total -= logits[job] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        shop.schedule(job)
    return total / (len(seq) - 1)


def best_makespan(machines, durations):
    """The optimum of a tiny shop by trying every job sequence."""
    n, m = machines.shape
    best = [10**9]

    def go(shop_jobs, free, nxt):
        if max(max(shop_jobs), max(free)) >= best[0]:
            return
        if all(k == m for k in nxt):
            best[0] = max(shop_jobs)
            return
        for j in range(n):
            if nxt[j] < m:
                machine = machines[j, nxt[j]]
                end = max(shop_jobs[j], free[machine]) + durations[j, nxt[j]]
                jobs, fr, nx = list(shop_jobs), list(free), list(nxt)
                jobs[j] = fr[machine] = int(end)
                nx[j] += 1
                go(jobs, fr, nx)

    go([0] * n, [0] * m, [0] * n)
    return best[0]
