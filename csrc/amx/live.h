// Which blocks of 32 x 32 have something live: the others need no product.
#pragma once

#include <algorithm>
#include <vector>

#include "steps.h"

namespace dmt::amx {

// Steps of depth [begin, end) in which rows, or columns, [first, first + 32) of an operand have something live.
class Alive {
 public:
  Chosen in_rows(const Steps& steps, const Operand& m, int64_t first, int64_t begin, int64_t end) {
    return of(steps.live_in_rows, m, first, begin, end);
  }
  Chosen in_columns(const Steps& steps, const Operand& m, int64_t first, int64_t begin, int64_t end) {
    return of(steps.live_in_columns, m, first, begin, end);
  }

 private:
  using Find = int64_t (*)(const Operand&, int64_t first, int64_t begin, int64_t end, int32_t* steps);
  Chosen of(Find find, const Operand& m, int64_t first, int64_t begin, int64_t end) {
    if (!m.mask.gaps) return {nullptr, steps_of(end - begin)};
    list_.resize(steps_of(end - begin));
    return {list_.data(), find(m, first, begin, end, list_.data())};
  }
  std::vector<int32_t> list_;
};

// Which blocks of rows [row, row + 32) of a result are wanted; the others are 0.
class Wanted {
 public:
  explicit Wanted(const Result& result)
      : of_{nullptr, 0, result.rows, result.columns, result.mask}, found_(panels_of(result.columns), 1) {}
  void look(const Steps& steps, int64_t row) {
    if (!of_.mask.gaps) return;
    const Chosen live = alive_.in_rows(steps, of_, row, 0, of_.columns);
    std::fill(found_.begin(), found_.end(), 0);
    for (int64_t i = 0; i < live.count; ++i) found_[live.list[i]] = 1;
  }
  bool operator[](int64_t panel) const { return found_[panel] != 0; }

 private:
  Operand of_;
  Alive alive_;
  std::vector<char> found_;
};

}  // namespace dmt::amx
