// The build of the steps for AVX-512 and AMX.
#include "block.h"
#include "columns.h"

namespace dmt::amx {

namespace {
constexpr Steps kSteps = {left_rows,       left_across, right_rows, right_across,   live_in_rows,
                          live_in_columns, multiply,    finish,     gather_columns, scatter_columns};
}

const Steps* steps() { return &kSteps; }

}  // namespace dmt::amx
