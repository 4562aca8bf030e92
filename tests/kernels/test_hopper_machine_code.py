"""What the compiler makes of the product for Hopper: there it decides more than speed."""

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("triton")
SOURCE = Path(__file__).resolve().parents[2] / "csrc" / "hopper" / "product_sm90a_cuda.cu"
pytestmark = pytest.mark.skipif(
    shutil.which("nvcc") is None or not SOURCE.exists(), reason="needs nvcc and the sources"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What nvcc reported, and the machine code by kernel."""
    from dmt_kernels import ahead

    made = tmp_path_factory.mktemp("hopper") / "product.o"
    report = ahead.compile_cuda(SOURCE, made)
    parts = re.split(r"\tFunction : (\S+)", ahead.disassemble(made))
    code = {name: text for name, text in zip(parts[1::2], parts[2::2], strict=True) if "product_kernel" in name}
    return report, code


def instructions(text):
    """Without predicates and places."""
    for found in re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(.*?);", text):
        yield re.sub(r"^@!?U?P\w+\s+", "", found.strip())


def written(instruction):
    """The vector registers that an instruction writes, generously."""
    name = instruction.split()[0].split(".")[0]
    found = re.match(r"\S+\s+(?:U?P\w+, )?R(\d+)\b", instruction)
    if found is None or name in ("ST", "STG", "STS", "SYNCS", "RED", "R2UR", "BRA", "WARPSYNC", "BAR"):
        return set()
    wide = 4 if name == "LDSM" else 2 if re.match(r"CS2R|\S*(WIDE|\.64)", instruction) else 1
    return set(range(int(found[1]), int(found[1]) + wide))


def test_products_are_not_taken_apart(compiled):
    """No spills; and nothing that made the compiler wait after every single product (its remarks C7510 and on)."""
    report, code = compiled
    assert len(code) == 12
    assert set(re.findall(r"(\d+) bytes spill", report)) == {"0"}
    assert "Potential Performance Loss" not in report, report
    for name, text in code.items():
        products = [i for i in instructions(text) if i.startswith("HGMMA")]
        assert len(products) == (4 if "Lb1E" in name else 8), name  # y: masked and as it is


def test_operands_stay_until_products_are_over(compiled):
    """Products read registers while the program goes on; the compiler thinks them free once products have begun."""
    kernels = 0
    for name, text in compiled[1].items():
        held = set()
        for instruction in instructions(text):
            operand = re.match(r"HGMMA\S* R\d+, R(\d+), gdesc", instruction)
            if operand:
                held |= set(range(int(operand[1]), int(operand[1]) + 4))
            elif instruction.startswith("WARPGROUP.DEPBAR"):
                kernels += len(held) == 16
                held = set()
            else:
                assert not held & written(instruction), f"{name}: {instruction}"
    assert kernels == 6, "kernels of y with a masked operand in registers"
