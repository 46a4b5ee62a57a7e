// NEON with the dot product of Armv8.2 (Neoverse N1, Cortex-A76 and later, Apple M1).
#pragma once
#include "neon.h"

constexpr bool INT8_IN_TILES = false;
