"""pack_mask and unpack_mask: layout, errors, tracing. Round trips are in test_threshold_ema_properties.py."""

import pytest
import torch

from dmt_kernels import backends, pack_mask, unpack_mask


def test_bit_j_of_word_w_is_column_64_w_plus_j():
    mask = torch.zeros(2, 130, dtype=torch.bool)
    mask[0, 0] = mask[0, 63] = mask[1, 64] = mask[1, 129] = True
    low = [1 | -(2**63), 0, 0]
    assert pack_mask(mask).tolist() == [low, [0, 1, 2]]


def test_strided_masks():
    mask = torch.rand(70, 9, generator=torch.Generator().manual_seed(0)).t() < 0.5
    assert torch.equal(unpack_mask(pack_mask(mask), 70), mask)


def test_misfits_are_said_clearly():
    with pytest.raises(TypeError, match="bool mask"):
        pack_mask(torch.zeros(3))
    with pytest.raises(ValueError, match="at least one dimension"):
        pack_mask(torch.tensor(True))
    with pytest.raises(TypeError, match="int64 words"):
        unpack_mask(torch.zeros(3, dtype=torch.int32), 64)
    with pytest.raises(ValueError, match="2 words a row for width 65"):
        unpack_mask(torch.zeros(3, 1, dtype=torch.int64), 65)


@pytest.mark.skipif(backends().on_cpu != "compiled", reason="no compiled CPU kernels")
def test_the_compiled_operator_checks_too():
    with pytest.raises(RuntimeError, match="1 words a row for width 1"):
        torch.ops.dmt_kernels.unpack_mask(torch.zeros(3, 2, dtype=torch.int64), 1)
    with pytest.raises(RuntimeError, match="bool mask"):
        torch.ops.dmt_kernels.pack_mask(torch.zeros(3))


def test_opcheck():
    mask = torch.rand(3, 70, generator=torch.Generator().manual_seed(0)) < 0.5
    torch.library.opcheck(torch.ops.dmt_kernels.pack_mask, (mask,))
    torch.library.opcheck(torch.ops.dmt_kernels.unpack_mask, (pack_mask(mask), 70))
