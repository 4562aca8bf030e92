// Which instruction set the CPU kernels use. Plain enough to be included anywhere.
#pragma once

namespace dmt {

enum class Isa { baseline, avx2, avx512 };

// The best that this processor has, or what `force_isa` asked for.
Isa isa();

// Whether Intel made the processor: libraries treat others differently.
bool intel();

// Whether it has matrix tiles for bfloat16 (AMX).
bool matrix_tiles();

}  // namespace dmt
