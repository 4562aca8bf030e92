// Which instruction set the CPU kernels use. Plain enough to be included anywhere.
#pragma once

namespace dmt {

// amx: AVX-512, and matrix tiles for products of bfloat16 and float32.
enum class Isa { baseline, avx2, avx512, amx };

// The best that this processor has, or what `force_isa` asked for.
Isa isa();

// Whether Intel made the processor: libraries treat others differently.
bool intel();

}  // namespace dmt
