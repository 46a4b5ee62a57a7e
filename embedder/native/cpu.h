// Which kernels this CPU runs.
#pragma once
#include "kernel.h"

// Best first; returns how many.
int kernels_of_this_cpu(const Kernel* kernels[4]);
