// The build of the steps for AVX-512 and AMX.
#include "block.h"

namespace dmt::amx {

namespace {
constexpr Steps kSteps = {left_rows, left_across, right_rows, right_across, multiply, finish};
}

const Steps* steps() { return &kSteps; }

}  // namespace dmt::amx
