// The kernels that a sparse operand invites, after SparseProp's idea: for every nonzero x[m, k], one axpy along a row.
// Plain loops over contiguous rows, which the compiler turns into the processor's widest vectors (-O3 -march=native).
// The nonzeros come as compressed rows (values, columns, starts), the weight as [K, N]; neither conversion is timed.

#include <cstdint>
#include <cstring>

namespace {

inline void axpy(float factor, const float* __restrict source, float* __restrict target, int64_t n) {
  for (int64_t i = 0; i < n; ++i) target[i] += factor * source[i];
}

inline float dot(const float* __restrict a, const float* __restrict b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

// y [M, N] = x @ weight.T + bias: a weight row per nonzero, added to the row of y.
extern "C" void axpy_y(const float* values, const int32_t* columns, const int64_t* starts, const float* weight,
                       const float* bias, float* y, int64_t rows, int64_t outputs) {
  for (int64_t m = 0; m < rows; ++m) {
    float* row = y + m * outputs;
    std::memcpy(row, bias, outputs * sizeof(float));
    for (int64_t i = starts[m]; i < starts[m + 1]; ++i) axpy(values[i], weight + columns[i] * outputs, row, outputs);
  }
}

// dX [M, K], zero but where x is not: a dot product per nonzero.
extern "C" void axpy_grad_input(const int32_t* columns, const int64_t* starts, const float* weight, const float* grad,
                                float* out, int64_t rows, int64_t columns_of_x, int64_t outputs) {
  std::memset(out, 0, rows * columns_of_x * sizeof(float));
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t i = starts[m]; i < starts[m + 1]; ++i)
      out[m * columns_of_x + columns[i]] = dot(grad + m * outputs, weight + columns[i] * outputs, outputs);
}

// dW as [K, N]: the row of the gradient per nonzero, added to a row of dW.
extern "C" void axpy_grad_weight(const float* values, const int32_t* columns, const int64_t* starts, const float* grad,
                                 float* out, int64_t rows, int64_t columns_of_x, int64_t outputs) {
  std::memset(out, 0, columns_of_x * outputs * sizeof(float));
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t i = starts[m]; i < starts[m + 1]; ++i)
      axpy(values[i], grad + m * outputs, out + columns[i] * outputs, outputs);
}
