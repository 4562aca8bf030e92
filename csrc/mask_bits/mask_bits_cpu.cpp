// Packing a mask of bytes into words and back, eight columns at a time.
#include <cstring>

#include "../common.h"

namespace dmt {
namespace {

CallCounter pack_calls("pack_mask"), unpack_calls("unpack_mask");
constexpr int64_t kGrain = 1024;  // words a thread takes at least

// Bytes of 0 or 1 -> their bits; the product gathers byte j's low bit into bit 56 + j.
inline uint64_t gather(uint64_t bytes) { return (bytes * 0x0102040810204080ull) >> 56; }

// Eight bits -> eight bytes of 0 or 1.
inline uint64_t scatter(uint64_t bits) {
  const uint64_t spread = (bits * 0x0101010101010101ull) & 0x8040201008040201ull;
  return ((spread + 0x7f7f7f7f7f7f7f7full) | spread) >> 7 & 0x0101010101010101ull;
}

Tensor pack_mask(const Tensor& mask) {
  pack_calls.add();
  STD_TORCH_CHECK(mask.scalar_type() == ScalarType::Bool, "pack_mask expects a bool mask");
  STD_TORCH_CHECK(mask.dim() >= 1, "pack_mask expects at least one dimension");
  const Tensor flat = as_contiguous(mask);
  const int64_t width = mask.size(mask.dim() - 1), count = words(width);
  const Tensor out = empty_with_width(mask, count, ScalarType::Long);
  const auto* from = static_cast<const unsigned char*>(flat.const_data_ptr());
  auto* to = static_cast<uint64_t*>(out.mutable_data_ptr());
  torch::stable::parallel_for(0, out.numel(), kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; ++w) {
      const int64_t column = w % count * 64, left = width - column < 64 ? width - column : 64;
      unsigned char lanes[64] = {};
      std::memcpy(lanes, from + w / count * width + column, static_cast<size_t>(left));
      uint64_t word = 0;
      for (int j = 0; j < 8; ++j) {
        uint64_t bytes;
        std::memcpy(&bytes, lanes + 8 * j, 8);
        word |= gather(bytes) << (8 * j);
      }
      to[w] = word;
    }
  });
  return out;
}

Tensor unpack_mask(const Tensor& bits, int64_t width) {
  unpack_calls.add();
  STD_TORCH_CHECK(bits.scalar_type() == ScalarType::Long, "unpack_mask expects int64 words");
  const int64_t count = words(width);
  STD_TORCH_CHECK(width >= 0 && bits.dim() >= 1 && bits.size(bits.dim() - 1) == count, "unpack_mask expects ", count,
                  " words a row for width ", width);
  const Tensor flat = as_contiguous(bits);
  const Tensor out = empty_with_width(bits, width, ScalarType::Bool);
  const auto* from = static_cast<const uint64_t*>(flat.const_data_ptr());
  auto* to = static_cast<unsigned char*>(out.mutable_data_ptr());
  torch::stable::parallel_for(0, bits.numel(), kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; ++w) {
      const int64_t column = w % count * 64, left = width - column < 64 ? width - column : 64;
      unsigned char lanes[64];
      for (int j = 0; j < 8; ++j) {
        const uint64_t bytes = scatter((from[w] >> (8 * j)) & 255);
        std::memcpy(lanes + 8 * j, &bytes, 8);
      }
      std::memcpy(to + w / count * width + column, lanes, static_cast<size_t>(left));
    }
  });
  return out;
}

}  // namespace
}  // namespace dmt

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) {
  m.impl("pack_mask", TORCH_BOX(&dmt::pack_mask));
  m.impl("unpack_mask", TORCH_BOX(&dmt::unpack_mask));
}
