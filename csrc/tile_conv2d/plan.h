// Where a convolution finds and leaves its pixels.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "../amx/steps.h"

namespace dmt::tile_conv2d {

// A tap: outputs of one phase see the input at stride * i + y, stride * j + x.
struct Tap {
  int64_t y, x;
};

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// One picture, packed: [channels / 32][parts][stride x stride planes][rows x columns and some more][32 numbers]. With a
// stride, plane (p, q) has the pixels (p, q) of each stride x stride. Grid position (i, j) of an output is at
// i * columns + j, and every tap a fixed distance from there; the last columns of a row give no output.
struct Layout {
  int64_t height, width, channels, stride, parts;
  int64_t top, left, rows, columns;    // in positions: first row and column, how many
  int64_t grid_rows, grid_columns;     // of outputs (of one phase)
  int64_t blocks, plane, part, block;  // of channels; bytes

  Layout(int64_t height, int64_t width, int64_t channels, int64_t stride, int64_t parts, int64_t grid_rows,
         int64_t grid_columns, const std::vector<Tap>& taps)
      : height(height),
        width(width),
        channels(channels),
        stride(stride),
        parts(parts),
        grid_rows(grid_rows),
        grid_columns(grid_columns),
        blocks(amx::steps_of(channels)) {
    int64_t bottom = floor_div(taps[0].y, stride), right = floor_div(taps[0].x, stride);
    top = bottom, left = right;
    for (const Tap& tap : taps) {
      const int64_t y = floor_div(tap.y, stride), x = floor_div(tap.x, stride);
      top = std::min(top, y), bottom = std::max(bottom, y), left = std::min(left, x), right = std::max(right, x);
    }
    rows = grid_rows + bottom - top, columns = grid_columns + right - left;
    plane = (rows * columns + (right - left) + amx::kSide) * 64;  // a block of 32 may begin at the last position
    part = stride * stride * plane, block = parts * part;
  }

  int64_t bytes() const { return blocks * block; }
  int64_t positions() const { return grid_rows * columns; }

  // Where a tap finds a block of channels of the output at position 0.
  int64_t place(const Tap& tap, int64_t channel_block) const {
    const int64_t y = floor_div(tap.y, stride), x = floor_div(tap.x, stride);
    const int64_t of = (tap.y - y * stride) * stride + tap.x - x * stride;
    return channel_block * block + of * plane + ((y - top) * columns + x - left) * 64;
  }
};

// Channels-last pixels of a picture.
struct Picture {
  const float* data;
  int64_t row, column;  // numbers from one to the next
};

// Packs a row of positions: what is outside the picture becomes 0.
class Packer {
 public:
  Packer(const amx::ConvolutionSteps& steps, const Layout& layout, const Picture& x, const amx::Affine& before,
         char* to)
      : steps_(steps), layout_(layout), x_(x), before_(before), to_(to) {}

  void row(int64_t r) const {
    const Layout& l = layout_;
    for (int64_t p = 0; p < l.stride; ++p)
      for (int64_t q = 0; q < l.stride; ++q) plane_row((r + l.top) * l.stride + p, q, (p * l.stride + q) * l.plane, r);
  }

 private:
  static constexpr int64_t kRun = 16;  // pixels that stay in the first-level cache for all their channels

  void plane_row(int64_t y, int64_t q, int64_t plane, int64_t r) const {
    const Layout& l = layout_;
    const int64_t start = plane + r * l.columns * 64;
    // The columns whose pixels are there.
    const int64_t first = std::clamp<int64_t>(-l.left, 0, l.columns);
    const int64_t behind = floor_div(l.width - 1 - q, l.stride) + 1 - l.left;
    const int64_t end = y < 0 || y >= l.height ? first : std::clamp<int64_t>(behind, first, l.columns);
    clear(start, 0, first), clear(start, end, l.columns);
    for (int64_t c = first; c < end; c += kRun) {
      const float* const pixel = x_.data + y * x_.row + ((c + l.left) * l.stride + q) * x_.column;
      for (int64_t b = 0; b < l.blocks; ++b) {
        const int64_t channel = b * amx::kDepth;
        const amx::Pixels pixels{pixel + channel, l.stride * x_.column, std::min(kRun, end - c),
                                 std::min(amx::kDepth, l.channels - channel)};
        amx::Affine before = before_;
        if (before.scale) before.scale += channel, before.shift += channel;
        steps_.pack(pixels, before, l.part, to_ + b * l.block + start + c * 64);
      }
    }
  }
  void clear(int64_t start, int64_t from, int64_t to) const {
    if (from >= to) return;
    for (int64_t b = 0; b < layout_.blocks; ++b)
      for (int64_t p = 0; p < layout_.parts; ++p)
        std::memset(to_ + b * layout_.block + p * layout_.part + start + from * 64, 0, (to - from) * 64);
  }

  const amx::ConvolutionSteps& steps_;
  const Layout& layout_;
  const Picture x_;
  const amx::Affine before_;
  char* to_;
};

}  // namespace dmt::tile_conv2d
