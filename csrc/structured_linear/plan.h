// Which rows and columns of a structured mask are live, as runs, and the smaller dense products that they make.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace dmt::structured_linear {

constexpr int64_t kTile = 64;

// Ascending places of one axis, as runs of neighbours.
struct Span {
  struct Run {
    int64_t begin, length;
    bool operator==(const Run& o) const { return begin == o.begin && length == o.length; }
  };
  std::vector<Run> runs;
  int64_t count = 0;

  static Span all(int64_t size) {
    Span s;
    s.add(0, size);
    return s;
  }
  void add(int64_t begin, int64_t length) {
    if (length <= 0) return;
    count += length;
    if (!runs.empty() && runs.back().begin + runs.back().length == begin)
      runs.back().length += length;
    else
      runs.push_back({begin, length});
  }
  bool whole(int64_t size) const { return count == size; }
  bool contiguous() const { return runs.size() <= 1; }
};

// The mask of `rows` x `columns`, a row of words after the other.
struct Bits {
  const uint64_t* data;
  int64_t stride, rows, columns;

  int64_t words() const { return (columns + 63) / 64; }
  // Columns that exist in word w.
  uint64_t full(int64_t w) const {
    const int64_t left = columns - w * 64;
    return left >= 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
  }
  uint64_t at(int64_t row, int64_t w) const { return data[row * stride + w] & full(w); }
};

// Live elements lie at rows x columns of some part. `exact`: all elements there are live.
struct Part {
  Span rows, columns;
};
struct Plan {
  std::vector<Part> parts;
  bool exact = true;

  int64_t cells() const {
    int64_t sum = 0;
    for (const Part& p : parts) sum += p.rows.count * p.columns.count;
    return sum;
  }
};

inline void add_bits(Span& span, uint64_t word, int64_t column) {
  while (word != 0) {
    const int begin = __builtin_ctzll(word);
    const uint64_t rest = ~(word >> begin);
    const int length = rest == 0 ? 64 : __builtin_ctzll(rest);
    span.add(column + begin, length);
    if (begin + length >= 64) return;
    word &= ~uint64_t{0} << (begin + length);
  }
}

// Columns that are live in any row.
inline Plan column_plan(const Bits& bits) {
  Plan plan;
  if (bits.rows == 0) return plan;
  std::vector<uint64_t> any(bits.words(), 0);
  for (int64_t r = 0; r < bits.rows; ++r)
    for (int64_t w = 0; w < bits.words(); ++w) any[w] |= bits.at(r, w);
  Span columns;
  for (int64_t w = 0; w < bits.words(); ++w) add_bits(columns, any[w], w * 64);
  for (int64_t r = 0; r < bits.rows && plan.exact; ++r)
    for (int64_t w = 0; w < bits.words(); ++w) plan.exact &= bits.at(r, w) == any[w];
  if (columns.count) plan.parts.push_back({Span::all(bits.rows), std::move(columns)});
  return plan;
}

// Rows with a live element.
inline Plan row_plan(const Bits& bits) {
  Plan plan;
  Span rows;
  for (int64_t r = 0; r < bits.rows; ++r) {
    bool any = false, full = true;
    for (int64_t w = 0; w < bits.words(); ++w) {
      any |= bits.at(r, w) != 0;
      full &= bits.at(r, w) == bits.full(w);
    }
    if (!any) continue;
    rows.add(r, 1);
    plan.exact &= full;
  }
  if (rows.count) plan.parts.push_back({std::move(rows), Span::all(bits.columns)});
  return plan;
}

// Tiles with a live element. `by_columns`: the parts are columns of tiles, each with its live tiles, for sums over
// rows; otherwise rows of tiles. Neighbours that are alike are one part.
inline Plan tile_plan(const Bits& bits, bool by_columns) {
  const int64_t down = (bits.rows + kTile - 1) / kTile, across = bits.words();
  std::vector<char> live(down * across, 0);
  Plan plan;
  for (int64_t i = 0; i < down; ++i) {
    for (int64_t w = 0; w < across; ++w) {
      uint64_t any = 0, every = ~uint64_t{0};
      for (int64_t r = i * kTile; r < std::min(bits.rows, (i + 1) * kTile); ++r) {
        any |= bits.at(r, w);
        every &= bits.at(r, w);
      }
      live[i * across + w] = any != 0;
      plan.exact &= any == 0 || every == bits.full(w);
    }
  }
  const int64_t lists = by_columns ? across : down, items = by_columns ? down : across;
  const int64_t list_limit = by_columns ? bits.columns : bits.rows, item_limit = by_columns ? bits.rows : bits.columns;
  const auto length = [](int64_t i, int64_t limit) { return std::min(kTile, limit - i * kTile); };
  for (int64_t l = 0; l < lists; ++l) {
    Span along, across_list;
    for (int64_t i = 0; i < items; ++i)
      if (live[by_columns ? i * across + l : l * across + i]) along.add(i * kTile, length(i, item_limit));
    if (along.count == 0) continue;
    across_list.add(l * kTile, length(l, list_limit));
    Part part{by_columns ? std::move(along) : across_list, by_columns ? across_list : std::move(along)};
    if (!plan.parts.empty()) {
      Part& last = plan.parts.back();
      Span &same = by_columns ? last.rows : last.columns, &grown = by_columns ? last.columns : last.rows;
      const Span &mine = by_columns ? part.rows : part.columns, &more = by_columns ? part.columns : part.rows;
      const bool touches = grown.runs.back().begin + grown.runs.back().length == more.runs[0].begin;
      if (touches && same.runs == mine.runs) {
        grown.add(more.runs[0].begin, more.count);
        continue;
      }
    }
    plan.parts.push_back(std::move(part));
  }
  return plan;
}

}  // namespace dmt::structured_linear
