// The AVX-512 build.
#include "kernel.h"

namespace dmt::sparse_bmm {

Steps avx512_steps(bool wide) { return wide ? steps<double>() : steps<float>(); }

}  // namespace dmt::sparse_bmm
