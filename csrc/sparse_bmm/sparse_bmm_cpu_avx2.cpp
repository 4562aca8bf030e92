// The AVX2 build.
#include "kernel.h"

namespace dmt::sparse_bmm {

Steps avx2_steps(bool wide) { return wide ? steps<double>() : steps<float>(); }

}  // namespace dmt::sparse_bmm
