// Matrix products: rows of A, read in steps of 4 bytes, times panels of B.
//
// A panel is 16 columns of B. One step of it has 64 bytes (of 16-bit floats: 32) and holds, for
// each column, the values that are multiplied by 4 bytes of a row of A: four int8, two int16 or one
// float. A block keeps BLOCK_ROWS x BLOCK_PANELS sums in registers over all steps. So each sum adds
// its products in the order of the inputs, whatever the block, the number of rows and the
// instruction set.
#pragma once
#include <stddef.h>

#include "lanes.h"

namespace {

struct Int8Step {
    typedef i32x16 Sum;
    static constexpr int DEPTH = 4, PANEL_BYTES = 64;
    INLINE i32x16 panel(const uint8_t* b) { return load<i32x16>(b); }
    INLINE i32x16 dot(i32x16 sum, i32x16 b, int32_t a) { return dot_int8(sum, b, a); }
};
struct Int16Step {
    typedef i32x16 Sum;
    static constexpr int DEPTH = 2, PANEL_BYTES = 64;
    INLINE i32x16 panel(const uint8_t* b) { return load<i32x16>(b); }
    template <class Sum>  // kernels with SCORES_IN_BYTES have no dot_int16
    INLINE Sum dot(Sum sum, Sum b, int32_t a) {
        return dot_int16(sum, b, a);
    }
};
// 12-bit numbers in two planes of bytes, 64 * high + low: first the steps of the high plane, then
// those of the low plane.
struct PlanesStep : Int8Step {};
struct FloatStep {
    typedef f32x16 Sum;
    static constexpr int DEPTH = 1, PANEL_BYTES = 64;
    INLINE f32x16 panel(const uint8_t* b) { return load<f32x16>(b); }
    INLINE f32x16 dot(f32x16 sum, f32x16 b, int32_t a) {
        return fma((f32x16)splat(a), b, sum);  // a float's splat is an addition to 0
    }
};
struct HalfStep {
    typedef f32x16 Sum;
    static constexpr int DEPTH = 1, PANEL_BYTES = 32;
    INLINE f32x16 panel(const uint8_t* b) { return to_float(load<f16x16>(b)); }
    INLINE f32x16 dot(f32x16 sum, f32x16 b, int32_t a) { return FloatStep::dot(sum, b, a); }
};

// A: `count` rows, `stride` bytes apart.
struct Rows {
    const uint8_t* data;
    size_t stride;
    int count;
};
// B: panels `stride` bytes apart, of which `steps` are read. `sums` of each column's values are
// subtracted ACTIVATION_OFFSET times; null where A has no offset.
struct Panels {
    const uint8_t* data;
    size_t stride;
    int steps;
    const int32_t* sums;
};

// Memory that is prefetched into L2 during a block, from `next` on.
struct Prefetch {
    const uint8_t* next;
    size_t step_bytes;  // per step
};

// Adds the products of a block's steps, ROW_STEPS at a time: one register holds a row's values for
// all of them, and each product uses one lane. Advances `rows` and `panels`, and returns the number
// of steps.
template <class Step, int ROWS, int PANELS>
INLINE int accumulate_by_lanes(typename Step::Sum (&sums)[ROWS][PANELS], const uint8_t*& rows,
                               size_t stride, const uint8_t*& panels, const Panels& b,
                               Prefetch& prefetch) {
    typedef int32_t Lanes __attribute__((vector_size(4 * ROW_STEPS)));
    size_t bytes = prefetch.step_bytes * ROW_STEPS;
    int step = 0;
    for (; step + ROW_STEPS <= b.steps;
         step += ROW_STEPS, rows += sizeof(Lanes), prefetch.next += bytes) {
        Lanes values[ROWS];
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; i++) values[i] = load<Lanes>(rows + i * stride);
#pragma clang loop unroll(full)
        for (int lane = 0; lane < ROW_STEPS; lane++, panels += Step::PANEL_BYTES)
#pragma clang loop unroll(full)
            for (int p = 0; p < PANELS; p++) {
                auto columns = Step::panel(panels + p * b.stride);
#pragma clang loop unroll(full)
                for (int i = 0; i < ROWS; i++)
                    sums[i][p] = Step::dot(sums[i][p], columns, values[i][lane]);
            }
        __builtin_prefetch(prefetch.next, 0, 2);
        if (bytes > 64) __builtin_prefetch(prefetch.next + 64, 0, 2);  // few rows
    }
    return step;
}

// Adds the products of a block's steps to its sums.
template <class Step, int ROWS, int PANELS>
INLINE void accumulate(typename Step::Sum (&sums)[ROWS][PANELS], const uint8_t* rows, size_t stride,
                       const uint8_t* panels, const Panels& b, Prefetch& prefetch) {
    int step = 0;
    if constexpr (INT8_IN_TILES && __is_same(Step, Int8Step))
        step = accumulate_int8(sums, rows, stride, panels, b.steps);
    else if constexpr (ROW_STEPS > 1)
        step = accumulate_by_lanes<Step>(sums, rows, stride, panels, b, prefetch);
    for (; step < b.steps; step++, rows += 4, panels += Step::PANEL_BYTES) {
        decltype(Step::panel(panels)) columns[PANELS];
#pragma clang loop unroll(full)
        for (int p = 0; p < PANELS; p++) columns[p] = Step::panel(panels + p * b.stride);
        __builtin_prefetch(prefetch.next, 0, 2);
        if (prefetch.step_bytes > 64) {  // few rows: the panels have to be read quickly
            __builtin_prefetch(prefetch.next + 64, 0, 2);
            __builtin_prefetch(prefetch.next + 128, 0, 2);
        }
        prefetch.next += prefetch.step_bytes;
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; i++) {
            int32_t value = load<int32_t>(rows + i * stride);
#pragma clang loop unroll(full)
            for (int p = 0; p < PANELS; p++) sums[i][p] = Step::dot(sums[i][p], columns[p], value);
        }
    }
}

// The same for two planes: (64 h + l) * (64 h' + l') = 64 * (64 * h h' + h l' + l h') + l l'.
template <int ROWS, int PANELS>
INLINE void accumulate_planes(i32x16 (&sums)[ROWS][PANELS], const uint8_t* rows, size_t stride,
                              const uint8_t* panels, const Panels& b, Prefetch& prefetch) {
    const uint8_t* low_rows = rows + b.steps * 4;
    const uint8_t* low_panels = panels + b.steps * Int8Step::PANEL_BYTES;
    auto shift = [&] {
        for (auto& row : sums)
            for (i32x16& sum : row) sum <<= 6;
    };
    accumulate<Int8Step>(sums, rows, stride, panels, b, prefetch);
    shift();
    accumulate<Int8Step>(sums, rows, stride, low_panels, b, prefetch);
    accumulate<Int8Step>(sums, low_rows, stride, panels, b, prefetch);
    shift();
    accumulate<Int8Step>(sums, low_rows, stride, low_panels, b, prefetch);
}

template <class Step, int ROWS, int PANELS, class Store>
INLINE void block(Rows a, int row, Panels b, int panel, Prefetch prefetch, Store store_sum) {
    typename Step::Sum sums[ROWS][PANELS];
    for (int p = 0; p < PANELS; p++) {
        typename Step::Sum start = {};
        if (ACTIVATION_OFFSET && b.sums)
            start = (typename Step::Sum)(load<i32x16>(b.sums + (panel + p) * LANES) *
                                         -ACTIVATION_OFFSET);
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; i++) sums[i][p] = start;
    }
    const uint8_t* rows = a.data + row * a.stride;
    const uint8_t* panels = b.data + panel * b.stride;
    if constexpr (__is_same(Step, PlanesStep))
        accumulate_planes(sums, rows, a.stride, panels, b, prefetch);
    else
        accumulate<Step>(sums, rows, a.stride, panels, b, prefetch);
#pragma clang loop unroll(full)
    for (int p = 0; p < PANELS; p++)
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; i++) store_sum(row + i, panel + p, sums[i][p]);
}

// A block of `rows` <= ROWS rows, with that number as a compile-time constant.
template <class Step, int ROWS, int PANELS, class Store>
static void block_of(int rows, Rows a, int row, Panels b, int panel, Prefetch prefetch,
                     Store store_sum) {
    if (rows == ROWS) return block<Step, ROWS, PANELS>(a, row, b, panel, prefetch, store_sum);
    if constexpr (ROWS > 1)
        block_of<Step, ROWS - 1, PANELS>(rows, a, row, b, panel, prefetch, store_sum);
}

// Each block prefetches a part of the next PANELS panels. Otherwise the first block of every panel
// waits for L3 or memory, which takes 18 % of the time of 64 rows.
template <class Step, int PANELS, class Store>
static void column_blocks(Rows a, Panels b, int panel, Store store_sum) {
    int blocks = (a.count + BLOCK_ROWS - 1) / BLOCK_ROWS;
    size_t share = PANELS * b.stride / blocks;
    Prefetch prefetch = {b.data + (panel + PANELS) * b.stride, (share + b.steps - 1) / b.steps};
    for (int row = 0; row < a.count; row += BLOCK_ROWS, prefetch.next += share) {
        int rows = a.count - row < BLOCK_ROWS ? a.count - row : BLOCK_ROWS;
        block_of<Step, BLOCK_ROWS, PANELS>(rows, a, row, b, panel, prefetch, store_sum);
    }
}

// Calls store_sum(row, panel, sum) for every row of A and every panel first <= panel < last of B.
template <class Step, class Store>
static void multiply(Rows a, Panels b, int first, int last, Store store_sum) {
    int panel = first;
    for (; panel + BLOCK_PANELS <= last; panel += BLOCK_PANELS)
        column_blocks<Step, BLOCK_PANELS>(a, b, panel, store_sum);
    for (; panel < last; panel++) column_blocks<Step, 1>(a, b, panel, store_sum);
}

}  // namespace
