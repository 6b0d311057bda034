"""The same workload on GPUs: seconds of a Megatron iteration, checked against measured ones."""

from jaxml.chiplet.config import ModelShape, Number
from jaxml.chiplet.field import field, record
from jaxml.chiplet.rounding import SMOOTH
from jaxml.chiplet.workload import layer


@record
class GpuConfig:
    """A GPU and its links.

    Attributes:
      peak_flop_s: of the tensor cores.
      memory_bytes_s: of HBM.
      memory_efficiency: share of it that streaming reaches.
      link_bytes_s: of the links to the other GPUs of a tensor-parallel group.
      step_s: latency of an all-reduce.
      gemm_efficiency: eta, share of the peak that products reach; fitted.
      link_efficiency: nu, share of the link bandwidth that an all-reduce reaches; fitted.
      attention_efficiency: of attention, as a share of that of products.
    """

    peak_flop_s: Number = field("FLOP/s", "> 0", default=312e12)
    memory_bytes_s: Number = field("bytes/s", "> 0", default=2039e9)
    memory_efficiency: Number = field("", "in (0, 1]", default=0.8)
    link_bytes_s: Number = field("bytes/s", "> 0", default=300e9)
    step_s: Number = field("s", ">= 0", default=20e-6)
    gemm_efficiency: Number = field("", "> 0", default=0.75)
    link_efficiency: Number = field("", "> 0", default=0.5)
    attention_efficiency: Number = field("", "in (0, 1]", default=0.75)


@record
class GpuPlan:
    """How a batch is split.

    Attributes:
      tensor: GPUs of a tensor-parallel group.
      pipeline: stages.
      interleave: model chunks of a stage.
      global_batch: sequences per iteration.
      micro_batch: sequences at a time.
      selective: 1 for sequence parallelism with selective recomputation, 0 for full recomputation.
      vocab_size: rows of the output matrix.
    """

    tensor: Number = field("GPUs", "a whole number >= 1")
    pipeline: Number = field("stages", "a whole number >= 1")
    interleave: Number = field("chunks", "a whole number >= 1")
    global_batch: Number = field("sequences", "a whole number >= 1")
    micro_batch: Number = field("sequences", "a whole number >= 1")
    selective: Number = field("", "0 or 1", default=0)
    vocab_size: Number = field("words", "a whole number >= 1", default=51200)


def iteration_s(model: ModelShape, gpu: GpuConfig, plan: GpuPlan) -> Number:
    """Seconds of a training iteration with tensor and pipeline parallelism (1F1B, interleaved).

    Per layer and micro-batch: products at `gemm_efficiency`, attention, memory traffic of norms,
    softmax, dropout and residuals (parted like the sequence under sequence parallelism), two
    all-reduces forward and two backward, one and a half times as long where their scattered inputs
    are gathered again. The output matrix and the optimizer's memory traffic come on top.
    """
    shape = layer(model, SMOOTH)
    h, s, parts = model.width, model.seq_len, plan.tensor
    tokens, split = plan.micro_batch * s, plan.selective
    product_flop_s = gpu.gemm_efficiency * gpu.peak_flop_s
    memory_bytes_s = gpu.memory_efficiency * gpu.memory_bytes_s
    gemm = 2 * tokens * sum(shape.params) / parts / product_flop_s
    attention = 4 * tokens * s * h / parts / (gpu.attention_efficiency * product_flop_s)
    scores = 8 * tokens * s * model.num_heads / parts / memory_bytes_s
    shared = 22 * tokens * h * (1 / parts + (1 - split) + split / parts) / memory_bytes_s
    traffic = scores + shared
    moved = 2 * (parts - 1) / parts * 2 * tokens * h
    reduce = moved / (gpu.link_efficiency * gpu.link_bytes_s) + gpu.step_s
    forward = gemm + attention + traffic + 2 * reduce
    backward = 2 * (gemm + attention) + 1.5 * traffic + 2 * (1 + split / 2) * reduce
    again = (1 - split) * forward + split * (attention + scores)
    micro_batches = plan.global_batch / plan.micro_batch
    stage = model.num_layers / plan.pipeline * (forward + backward + again)
    piped = stage * (micro_batches + (plan.pipeline - 1) / plan.interleave)
    head = micro_batches * 6 * tokens * h * plan.vocab_size / parts / product_flop_s
    weights = sum(shape.params) * model.num_layers / (plan.pipeline * parts)
    return piped + head + weights * 28 / memory_bytes_s
