// The kernels that this CPU can run.
#pragma once
#include "kernel.h"

// Fills `kernels`, the best first, and returns their number.
int kernels_of_this_cpu(const Kernel* kernels[4]);
