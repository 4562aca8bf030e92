// Sums of |x| over the groups of a structured mask: columns, rows or tiles. One pass over x; partial sums belong to
// blocks cut by the shape alone and are added in their order.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cmath>

#include "../common.h"

namespace dmt {
namespace {

CallCounter sums_calls("group_sums");
constexpr int64_t kTile = 64;
enum Structure : int64_t { kElement = 0, kColumn = 1, kRow = 2, kTiles = 3 };

struct Sums {
  double finite, count, all;
  void add(const Sums& o) { finite += o.finite, count += o.count, all += o.all; }
};

template <class T>
double size_of(T v) {
  return std::fabs(static_cast<double>(static_cast<std::conditional_t<sizeof(T) == 8, double, float>>(v)));
}

template <class T>
Sums finite_only(const T* x, int64_t count, int64_t stride) {
  Sums s{};
  for (int64_t i = 0; i < count; ++i) {
    const double v = size_of(x[i * stride]);
    s.all += v;
    if (!std::isfinite(v)) continue;
    s.finite += v;
    s.count += 1;
  }
  return s;
}

// Of neighbours in a row; eight sums at a time, so that the additions do not wait for one another.
template <class T>
Sums along(const T* x, int64_t count) {
  double lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) lanes[j] += size_of(x[i + j]);
  for (; i < count; ++i) lanes[i % 8] += size_of(x[i]);
  const double all = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  if (!std::isfinite(all)) return finite_only(x, count, 1);
  return {all, static_cast<double>(count), all};
}

// Adds rows [begin, end) to the sums of every column.
template <class T>
void down(const T* x, int64_t stride, int64_t begin, int64_t end, int64_t width, Sums* out) {
  std::vector<double> all(width, 0.0);
  for (int64_t r = begin; r < end; ++r) {
    const T* row = x + r * stride;
    for (int64_t c = 0; c < width; ++c) all[c] += size_of(row[c]);
  }
  for (int64_t c = 0; c < width; ++c)
    out[c] = std::isfinite(all[c]) ? Sums{all[c], static_cast<double>(end - begin), all[c]}
                                   : finite_only(x + begin * stride + c, end - begin, stride);
}

struct Flat {
  Tensor owner;
  int64_t rows, width, stride;
};

Flat flat(const Tensor& x) {
  const int64_t width = x.size(x.dim() - 1);
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) rows *= x.size(d);
  if (x.dim() == 2 && (x.stride(1) == 1 || width <= 1)) return {x, rows, width, x.stride(0)};
  return {as_contiguous(x), rows, width, width};
}

template <class T>
void columns(const Flat& f, double* out) {
  const T* x = static_cast<const T*>(f.owner.const_data_ptr());
  const int64_t block = std::max<int64_t>(128, f.rows / 64), blocks = (f.rows + block - 1) / block;
  std::vector<Sums> partial(blocks * f.width);
  torch::stable::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      down(x, f.stride, b * block, std::min(f.rows, (b + 1) * block), f.width, partial.data() + b * f.width);
  });
  for (int64_t c = 0; c < f.width; ++c) {
    Sums s{};
    for (int64_t b = 0; b < blocks; ++b) s.add(partial[b * f.width + c]);
    out[c] = s.finite, out[f.width + c] = s.count, out[2 * f.width + c] = s.all;
  }
}

// Rows (height 1, one group across) and tiles.
template <class T>
void blocks(const Flat& f, int64_t height, int64_t width, int64_t tall, int64_t across, double* out) {
  const T* x = static_cast<const T*>(f.owner.const_data_ptr());
  const int64_t groups = tall * across;
  torch::stable::parallel_for(0, tall, std::max<int64_t>(1, 64 / height), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < across; ++j) {
        Sums s{};
        for (int64_t r = i * height; r < std::min(f.rows, (i + 1) * height); ++r)
          s.add(along(x + r * f.stride + j * width, std::min(width, f.width - j * width)));
        double* to = out + i * across + j;
        to[0] = s.finite, to[groups] = s.count, to[2 * groups] = s.all;
      }
    }
  });
}

template <class T>
void run(const Flat& f, int64_t structure, int64_t tall, int64_t across, double* out) {
  if (structure == kColumn) return columns<T>(f, out);
  const bool tiles = structure == kTiles;
  blocks<T>(f, tiles ? kTile : 1, tiles ? kTile : std::max<int64_t>(f.width, 1), tall, across, out);
}

Tensor group_sums(const Tensor& x, int64_t structure) {
  sums_calls.add();
  STD_TORCH_CHECK(x.dim() >= 1, "group_sums expects x [..., D], got a tensor without dimensions");
  STD_TORCH_CHECK(structure > kElement && structure <= kTiles, "group_sums expects columns, rows or tiles, got ",
                  structure);
  const Flat f = flat(x);
  int64_t tall = f.rows, across = f.width;
  if (structure == kColumn) tall = f.rows > 0 ? 1 : 0;
  if (structure == kRow) across = f.width > 0 ? 1 : 0;
  if (structure == kTiles) tall = (f.rows + kTile - 1) / kTile, across = (f.width + kTile - 1) / kTile;
  const Tensor out = empty({3, tall, across}, ScalarType::Double, x);
  if (out.numel() == 0) return out;
  double* to = static_cast<double*>(out.mutable_data_ptr());
  switch (x.scalar_type()) {
    case ScalarType::Float:
      run<float>(f, structure, tall, across, to);
      break;
    case ScalarType::Double:
      run<double>(f, structure, tall, across, to);
      break;
    case ScalarType::BFloat16:
      run<torch::headeronly::BFloat16>(f, structure, tall, across, to);
      break;
    case ScalarType::Half:
      run<torch::headeronly::Half>(f, structure, tall, across, to);
      break;
    default:
      STD_TORCH_CHECK(false, "group_sums expects x in float32, bfloat16, float16 or float64");
  }
  return out;
}

}  // namespace
}  // namespace dmt

STABLE_TORCH_LIBRARY_IMPL(dmt_kernels, CPU, m) { m.impl("group_sums", TORCH_BOX(&dmt::group_sums)); }
