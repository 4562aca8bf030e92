// Working memory of one call.
#pragma once

#include <memory>
#include <new>
#include <optional>

#include "common.h"

namespace dmt {

// Small pieces stay with the calling thread for its next call: fresh pages cost more than a small product. What is in
// them means nothing between calls.
class Scratch {
 public:
  enum Use { kPacked, kGrad, kInput, kBits, kSums, kOrder, kUses };

  Scratch(Use use, int64_t bytes, const Tensor& like) {
    if (bytes <= kKept) {
      static thread_local Kept kept[kUses];
      if (!kept[use].data) kept[use].data.reset(new (std::align_val_t{64}) char[kKept]);
      data_ = kept[use].data.get();
    } else {
      fresh_ = empty({bytes}, ScalarType::Byte, like);
      data_ = static_cast<char*>(fresh_->data_ptr());
    }
  }
  char* data() const { return data_; }

 private:
  static constexpr int64_t kKept = 1 << 20;
  struct Free {
    void operator()(char* p) const { operator delete[](p, std::align_val_t{64}); }
  };
  struct Kept {
    std::unique_ptr<char, Free> data;
  };
  std::optional<Tensor> fresh_;
  char* data_;
};

}  // namespace dmt
