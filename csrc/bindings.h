// What both Python modules offer about themselves.
#pragma once

#include <pybind11/pybind11.h>

#include "call_counter.h"

namespace dmt {

// {operator: number of calls since the module was loaded}
inline pybind11::dict calls() {
  pybind11::dict counts;
  for (const CallCounter* c = CallCounter::head(); c != nullptr; c = c->next) counts[c->name] = c->count.load();
  return counts;
}

}  // namespace dmt
