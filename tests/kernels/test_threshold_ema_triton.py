"""The GPU kernels of threshold_ema without a GPU: numbers in Triton's interpreter, machine code ahead of time."""

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("triton")
import torch
from interpreter import interpret

INTERPRETED = """
import torch
from dmt_kernels.testing import repair_interpreter
repair_interpreter()
from dmt_kernels.ops.threshold_ema import reference, triton_kernels as kernels

new_empty = torch.Tensor.new_empty
def filled(self, *args, **kwargs):
    made = new_empty(self, *args, **kwargs)
    return made.fill_(float("nan") if made.dtype.is_floating_point else torch.iinfo(made.dtype).max)
torch.Tensor.new_empty = filled

checked = 0
generator = torch.Generator().manual_seed(0)
for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
    shapes = [(1, 1), (3, 5, 70), (70, 129), (0, 64), (4, 0)]
    for shape in shapes if dtype in (torch.float32, torch.bfloat16) else shapes[1:2]:
        for information, per_feature, update in [(False, False, True), (True, True, True), (True, False, False)]:
            x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            if x.numel() > 20:
                x.view(-1)[3], x.view(-1)[7] = float("nan"), float("inf")
            if information:
                x = x.nan_to_num(0, 1, -1)
            theta = torch.randn(shape[-1], generator=generator) if per_feature else torch.tensor(0.3)
            state = torch.tensor([0.7, 3, 0, 0])
            sums = reference.abs_sums(x) if update and per_feature else None
            torch.testing.assert_close(kernels.abs_sums(x), reference.abs_sums(x), rtol=1e-12, atol=0)
            arguments = (x, theta, state, sums, 0.9, update, information, True)
            got, want = kernels.forward(*arguments), reference.forward(*arguments)
            for name, ours, theirs in zip(want._fields, got, want):
                exact = name in ("values", "bits", "live", "state")
                torch.testing.assert_close(ours, theirs, rtol=0 if exact else 2e-5, atol=0 if exact else 1e-6, msg=name)
            grad = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            upstream = torch.tensor(0.7, dtype=want.information.dtype) if information else None
            arguments = (None if per_feature else grad, upstream, x, theta, want.state, want.statistics)
            loose = {torch.bfloat16: 1e-2, torch.float16: 2e-3}.get(dtype, 1e-4)
            for ours, theirs in zip(kernels.backward(*arguments), reference.backward(*arguments)):
                torch.testing.assert_close(ours, theirs, rtol=loose, atol=1e-4)
            checked += 1
print("checked", checked)
"""

NVCC = shutil.which("nvcc")


def test_numbers_in_the_interpreter():
    done = interpret(INTERPRETED)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "checked 36"


@pytest.mark.parametrize("architecture", [80, 89, 90])
def test_ahead_of_time_without_spills(architecture):
    from dmt_kernels import ahead

    forms = [*ahead.threshold_forms(torch.bfloat16), *ahead.group_forms(torch.bfloat16)]
    if architecture == 90:
        forms += ahead.threshold_forms(torch.float32)
    for form in forms:
        made = ahead.compile_triton(form, architecture)
        assert made.spills == 0, f"{form.name} {form.label} spills on sm_{architecture}"
        assert made.shared <= ahead.SHARED_LIMIT[architecture]


def spill_bytes(report: str) -> int:
    found = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert found, report
    return sum(int(number) for pair in found for number in pair)


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
@pytest.mark.parametrize("name", ["threshold_ema", "mask_bits"])
def test_cuda_kernels_do_not_spill(name, tmp_path):
    root = Path(__file__).resolve().parents[2]
    source = root / "csrc" / name / f"{name}_cuda.cu"
    if not source.exists():
        pytest.skip("needs the source tree")
    from dmt_kernels import ahead

    assert spill_bytes(ahead.compile_cuda(source, tmp_path / "kernels.o")) == 0
