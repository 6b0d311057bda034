"""A training loop in the manner of Social-GAN in torch, in a process of its own.

As published: LSTM encoder and decoder, pooling over the agents of each window in a Python loop,
best-of-k variety loss with one decoder pass per sample. Reads a JSON line `{"sizes": [agents of
each window], "samples", "steps"}`; answers one line per `run` with agents per second.
"""

import json
import sys
import time

import torch as t
from torch import nn


class Generator(nn.Module):
    """Sizes of the published 20V-20-P model."""

    def __init__(self):
        super().__init__()
        self.embed, self.encoder = nn.Linear(2, 16), nn.LSTM(16, 32)
        self.place = nn.Linear(2, 16)
        self.pool = nn.Sequential(nn.Linear(48, 512), nn.ReLU(), nn.Linear(512, 8), nn.ReLU())
        self.context = nn.Sequential(nn.Linear(40, 24), nn.ReLU())
        self.step_embed, self.decoder, self.out = (
            nn.Linear(2, 16),
            nn.LSTM(16, 32),
            nn.Linear(32, 2),
        )

    def pooled(self, hidden, place, edges):
        """The maximum over each window."""
        found = []
        for a, b in edges:
            h, p, n = hidden[a:b], place[a:b], b - a
            near = self.place(p.repeat(n, 1) - p.repeat_interleave(n, 0))
            found.append(self.pool(t.cat([near, h.repeat(n, 1)], 1)).view(n, n, -1).max(1)[0])
        return t.cat(found)

    def forward(self, steps, place, edges):
        """Paths [agents, 12, 2]."""
        _, (h, _) = self.encoder(self.embed(steps))
        x = self.context(t.cat([h[0], self.pooled(h[0], place, edges)], 1))
        noise = t.cat([t.randn(1, 8).repeat(b - a, 1) for a, b in edges])
        state = (t.cat([x, noise], 1)[None], t.zeros(1, len(x), 32))
        move, moves = steps[-1], []
        for _ in range(12):
            y, state = self.decoder(self.step_embed(move)[None], state)
            move = self.out(y[0])
            moves.append(move)
        return t.stack(moves, 1).cumsum(1)


class Discriminator(nn.Module):
    """Scores whole paths."""

    def __init__(self):
        super().__init__()
        self.embed, self.encoder = nn.Linear(2, 16), nn.LSTM(16, 32)
        self.score = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, steps):
        """Logits of displacements [19, agents, 2]."""
        return self.score(self.encoder(self.embed(steps))[1][0][0])[:, 0]


def make(job):
    """The step."""
    t.manual_seed(0)
    edges, first = [], 0
    for n in job["sizes"]:
        edges.append((first, first + n))
        first += n
    steps, place, future = t.randn(7, first, 2) * 0.3, t.randn(first, 2), t.randn(first, 12, 2)
    g, d, bce = Generator(), Discriminator(), nn.BCEWithLogitsLoss()
    opt_g, opt_d = (t.optim.Adam(m.parameters(), 1e-3) for m in (g, d))

    def whole(paths):
        moves = t.cat([paths[:, :1], paths[:, 1:] - paths[:, :-1]], 1).transpose(0, 1)
        return t.cat([steps, moves])

    def step():
        fake = g(steps, place, edges).detach()
        real, made = d(whole(future)), d(whole(fake))
        loss = bce(real, t.full_like(real, 0.9)) + bce(made, t.full_like(made, 0.1))
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()
        every = []
        for _ in range(job["samples"]):
            paths = g(steps, place, edges)
            every.append(((paths - future) ** 2).sum((1, 2)))
        every = t.stack(every, 1)
        close = sum(every[a:b].sum(0).min() for a, b in edges) / first
        score = d(whole(paths))
        loss = close + bce(score, t.full_like(score, 0.9))
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()

    return step, first


def main():
    """Runs until the input ends."""
    job = json.loads(sys.stdin.readline())
    step, agents = make(job)
    step()
    for _ in sys.stdin:
        begun = time.perf_counter()
        for _ in range(job["steps"]):
            step()
        rate = agents * job["steps"] / (time.perf_counter() - begun)
        print(json.dumps({"agents_per_s": rate}), flush=True)


if __name__ == "__main__":
    main()
