// NEON with the matrix products of Armv8.6 (Neoverse V1, N2 and V2, Ampere One, Apple M2).
#pragma once
#include "dotprod.h"
