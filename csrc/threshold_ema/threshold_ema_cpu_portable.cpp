// The loops for this instruction set: see ../simd.h.
#include "loops.h"
