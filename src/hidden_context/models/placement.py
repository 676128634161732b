"""Where and in which precision a model runs."""

from __future__ import annotations

import torch

from hidden_context.errors import ConfigError

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device named, or with ``auto`` the accelerator if there is one, else the CPU.

    Raises:
        ConfigError: If the name is no device, or that device is not there.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"device {device!r} is not known; use auto, cpu, cuda or cuda:0."
        ) from error
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = here.get(resolved.type)
    if count is not None and (resolved.index or 0) >= count:
        raise ConfigError(
            f"device {str(device)!r} was asked for, but this machine has {count} {resolved.type} "
            "devices; use auto or cpu."
        )
    return resolved


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return the precision named; ``auto`` is bfloat16 on a GPU that has it, else float32.

    A GPU that only imitates bfloat16 does not have it. Whatever the backbone's precision, the head
    and everything after it is float32.

    Raises:
        ConfigError: If the name is unknown.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in _DTYPES:
        raise ConfigError(f"precision {dtype!r} is not known; choose auto, {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]
