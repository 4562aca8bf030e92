// Counts the calls of each operator, so that a test can tell that compiled code ran.
#pragma once

#include <atomic>
#include <cstdint>

namespace dmt {

// One per operator, at namespace scope; all of a module hang on one list.
class CallCounter {
 public:
  explicit CallCounter(const char* name) : name(name), next(head()) { head() = this; }
  void add(int64_t n = 1) { count.fetch_add(n, std::memory_order_relaxed); }

  const char* const name;
  std::atomic<int64_t> count{0};
  CallCounter* const next;

  static CallCounter*& head() {
    static CallCounter* first = nullptr;
    return first;
  }
};

}  // namespace dmt
