"""The selective scan a chunk at a time, in plain torch: for devices and machines without a kernel of ours.

Within a chunk the recurrence is solved by doubling: after k rounds every step has gathered the 2^k steps
before it (Hillis and Steele 1986, "Data parallel algorithms"). Products of decays are never divided by,
so nothing overflows however long the sequence. A chunk is computed anew in the backward pass: what is kept
is one state per chunk, and never [batch, step, channel, state].
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from caretrace.backbones.scan.literal import nothing

CHUNK = 32


def chunked_scan(
    inputs: Float[Tensor, "batch step channel"],
    delta: Float[Tensor, "batch step channel"],
    decay: Float[Tensor, "channel state"],
    writes: Float[Tensor, "batch step state"],
    reads: Float[Tensor, "batch step state"],
    skip: Float[Tensor, "channel"],
    gate: Float[Tensor, "batch step channel"],
    bias: Float[Tensor, "channel"],
) -> Float[Tensor, "batch step channel"]:
    """As `literal_scan`."""
    steps = F.softplus(delta + bias)
    if not inputs.shape[1]:
        return (nothing(steps, decay, writes, reads) + skip * inputs) * F.silu(gate)
    hidden = inputs.new_zeros(inputs.shape[0], *decay.shape)
    outputs = []
    parts = zip(
        torch.split(steps, CHUNK, 1),
        torch.split(steps * inputs, CHUNK, 1),
        torch.split(writes, CHUNK, 1),
        torch.split(reads, CHUNK, 1),
        strict=True,
    )
    for step, entering, write, read in parts:
        if torch.is_grad_enabled():
            output, hidden = checkpoint(
                _chunk, hidden, step, entering, decay, write, read, use_reentrant=False
            )
        else:
            output, hidden = _chunk(hidden, step, entering, decay, write, read)
        outputs.append(output)
    return (torch.cat(outputs, 1) + skip * inputs) * F.silu(gate)


def _chunk(
    hidden: Tensor, step: Tensor, entering: Tensor, decay: Tensor, writes: Tensor, reads: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs of the steps of one chunk, and the state after the last."""
    product = torch.exp(step[..., None] * decay)
    total = entering[..., None] * writes[:, :, None]
    total = torch.cat([total[:, :1] + product[:, :1] * hidden[:, None], total[:, 1:]], 1)
    reach = 1
    while reach < total.shape[1]:
        # What stood `reach` steps ago, faded by everything since; the first `reach` steps are done.
        total = torch.cat([total[:, :reach], total[:, reach:] + product[:, reach:] * total[:, :-reach]], 1)
        product = torch.cat([product[:, :reach], product[:, reach:] * product[:, :-reach]], 1)
        reach *= 2
    return torch.einsum("btcs,bts->btc", total, reads), total[:, -1]
