"""TNL beside a softmax Transformer of its size: forward pass and decoding against the length."""

from jaxml.report import timing
from jaxml.tnl import speed


def rows(smoke: bool) -> list[timing.Row]:
    """Peer: our own Transformer on `jax.nn.dot_product_attention`, same size, same process."""
    lengths = (256, 512) if smoke else (1024, 2048, 4096, 8192, 16384)
    contexts = (256, 1024) if smoke else (1024, 4096, 16384, 65536)
    repeats, num_tokens = (2, 16) if smoke else (5, 256)
    pair = speed.models()
    found = [row for n in lengths for row in speed.forward_rows(pair, n, repeats)]
    times = {
        name: timing.alternate(
            speed.decode_calls(lm, params, contexts, num_tokens), repeats=2 * repeats
        )
        for name, (lm, params) in pair.items()
    }
    for n in contexts:
        ours, peer = (times[name][str(n)] for name in ("TNL", "Transformer"))
        case = f"decode B1 context {n} tokens {num_tokens}"
        found.append(timing.faster(case, "decode_ms", ours, "Transformer", peer))
    return found
