"""Full precision for losses and metrics, whatever mixed precision the network runs in."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keeps autocast, TF32 and bfloat16 products out of the float32 arithmetic on `device` within the block.

    A variance taken as E[x^2] - E[x]^2 loses everything at TF32's ten bits. The former settings are put back.
    """
    before = _product_settings()
    torch.set_float32_matmul_precision("highest")
    try:
        with _without_autocast(device):
            yield
    finally:
        _restore(before)


def _without_autocast(device: torch.device) -> Any:
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _backends() -> list[Any]:
    """The modules with a switch of their own, which torch has since 2.9 beside the process-wide switch."""
    modules = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    return [module for module in modules if hasattr(module, "fp32_precision")]


def _product_settings() -> tuple[str | None, list[str]]:
    try:
        process_wide = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to answer once the newer switches alone were used
        process_wide = None
    return process_wide, [module.fp32_precision for module in _backends()]


def _restore(settings: tuple[str | None, list[str]]) -> None:
    process_wide, each_backend = settings
    if process_wide is not None:
        torch.set_float32_matmul_precision(process_wide)
    for module, value in zip(_backends(), each_backend, strict=True):
        module.fp32_precision = value
