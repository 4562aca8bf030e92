// Packing a mask of bytes into words and back: a warp per word.
#include "../cuda_common.h"

namespace dmt {
namespace {

CallCounter pack_calls("pack_mask"), unpack_calls("unpack_mask");
constexpr int kBlock = 256;

__global__ void pack_kernel(const bool* mask, unsigned long long* bits, int64_t count, int64_t words, int64_t width) {
  const int lane = threadIdx.x % 32;
  const int64_t w = (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) / 32;
  if (w >= count) return;  // the same for the whole warp
  const int64_t column = w % words * 64 + lane, row = w / words * width;
  const unsigned low = __ballot_sync(~0u, column < width && mask[row + column]);
  const unsigned high = __ballot_sync(~0u, column + 32 < width && mask[row + column + 32]);
  if (lane == 0) bits[w] = (static_cast<unsigned long long>(high) << 32) | low;
}

__global__ void unpack_kernel(const unsigned long long* bits, bool* mask, int64_t count, int64_t words, int64_t width) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (i >= count) return;
  const int64_t column = i % width;
  mask[i] = (bits[i / width * words + column / 64] >> (column % 64)) & 1;
}

unsigned blocks(int64_t threads) { return static_cast<unsigned>((threads + kBlock - 1) / kBlock); }

Tensor pack_mask(const Tensor& mask) {
  pack_calls.add();
  STD_TORCH_CHECK(mask.scalar_type() == ScalarType::Bool, "pack_mask expects a bool mask");
  STD_TORCH_CHECK(mask.dim() >= 1, "pack_mask expects at least one dimension");
  const torch::stable::accelerator::DeviceGuard guard(mask.get_device_index());
  const Tensor flat = as_contiguous(mask);
  const int64_t width = mask.size(mask.dim() - 1), count = words(width);
  const Tensor out = empty_with_width(mask, count, ScalarType::Long);
  if (out.numel() == 0) return out;
  pack_kernel<<<blocks(out.numel() * 32), kBlock, 0, stream_of(mask)>>>(
      static_cast<const bool*>(flat.const_data_ptr()), static_cast<unsigned long long*>(out.mutable_data_ptr()),
      out.numel(), count, width);
  launch_check();
  return out;
}

Tensor unpack_mask(const Tensor& bits, int64_t width) {
  unpack_calls.add();
  STD_TORCH_CHECK(bits.scalar_type() == ScalarType::Long, "unpack_mask expects int64 words");
  const int64_t count = words(width);
  STD_TORCH_CHECK(width >= 0 && bits.dim() >= 1 && bits.size(bits.dim() - 1) == count, "unpack_mask expects ", count,
                  " words a row for width ", width);
  const torch::stable::accelerator::DeviceGuard guard(bits.get_device_index());
  const Tensor flat = as_contiguous(bits);
  const Tensor out = empty_with_width(bits, width, ScalarType::Bool);
  if (out.numel() == 0) return out;
  unpack_kernel<<<blocks(out.numel()), kBlock, 0, stream_of(bits)>>>(
      static_cast<const unsigned long long*>(flat.const_data_ptr()), static_cast<bool*>(out.mutable_data_ptr()),
      out.numel(), count, width);
  launch_check();
  return out;
}

}  // namespace
}  // namespace dmt

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CUDA, m) {
  m.impl("pack_mask", TORCH_BOX(&dmt::pack_mask));
  m.impl("unpack_mask", TORCH_BOX(&dmt::unpack_mask));
}
