"""The CUDA kernel of the authors of Mamba, where their package is installed (pip install mamba-ssm)."""

from torch import Tensor

from caretrace.backbones.scan.contract import ScanInputs


def mamba_ssm_scan(*given: Tensor) -> Tensor:
    """As `literal_scan`; theirs wants [batch, channel, step]."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    parts = ScanInputs(*given)
    if not parts.inputs.numel():
        return parts.inputs
    inputs, delta, writes, reads, gate = (
        each.transpose(1, 2).contiguous()
        for each in (parts.inputs, parts.delta, parts.writes, parts.reads, parts.gate)
    )
    outputs: Tensor = selective_scan_fn(
        inputs,
        delta,
        parts.decay,
        writes,
        reads,
        parts.skip,
        z=gate,
        delta_bias=parts.bias,
        delta_softplus=True,
    )
    return outputs.transpose(1, 2)
