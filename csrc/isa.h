// Which instruction set the CPU kernels use. Plain enough to be included anywhere.
#pragma once

namespace dmt {

enum class Isa { baseline, avx2, avx512 };

// The best that this processor has, or what `force_isa` asked for.
Isa isa();

}  // namespace dmt
