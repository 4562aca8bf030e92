"""The operator library `dmt_kernels::`: schemas come from Python, kernels from the compiled modules.

The dispatcher chooses: a kernel that a compiled module registers for the tensor's device goes before the plain-PyTorch
reference, which is registered for every device and runs where nothing compiled is loaded. `backends()` says which.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

NAMESPACE = "dmt_kernels"
LIBRARY = torch.library.Library(NAMESPACE, "DEF")


def define(schema: str, reference: Callable, fake: Callable) -> None:
    """Declare `schema`, with its meaning for any device and its shapes for tracing."""
    name = schema.partition("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=LIBRARY)
