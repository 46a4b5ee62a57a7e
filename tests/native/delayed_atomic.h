// A std::atomic with random delays before and after every operation, whose weak compare-and-swap
// fails at random. Orders of operations that occur once in hours on an idle machine occur in
// seconds.
//
// Included with -include, so that the tested source is unchanged. All other headers are included
// before the macro.
#pragma once
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <atomic>
#include <vector>

inline uint32_t random_bits() {
    static std::atomic<uint32_t> threads{0};
    static thread_local uint32_t state = 2654435769u * (threads.fetch_add(1) + 1);
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state;
}

// Mostly short, because a thread that yields on a busy machine waits for milliseconds.
inline void maybe_delay() {
    uint32_t bits = random_bits();
    if (bits % 1024 == 0) {
        timespec time = {0, long(bits >> 15)};  // up to 0.13 ms
        nanosleep(&time, nullptr);
    } else if (bits % 256 == 1) {
        sched_yield();
    } else if (bits % 8 == 2) {
        for (volatile uint32_t i = bits >> 24; i > 0; i = i - 1) {
        }
    }
}

namespace std {

template <class T>
class delayed_atomic {
 public:
    delayed_atomic() = default;
    constexpr delayed_atomic(T value) : value_(value) {}

    T load(memory_order order = memory_order_seq_cst) const {
        maybe_delay();
        T value = value_.load(order);
        maybe_delay();
        return value;
    }
    void store(T value, memory_order order = memory_order_seq_cst) {
        maybe_delay();
        value_.store(value, order);
        maybe_delay();
    }
    T operator=(T value) { return store(value), value; }
    bool compare_exchange_weak(T& expected, T value) {
        maybe_delay();
        if (random_bits() % 16 == 0) return expected = value_.load(), false;
        bool done = value_.compare_exchange_weak(expected, value);
        maybe_delay();
        return done;
    }
    T fetch_add(T value) {
        maybe_delay();
        T before = value_.fetch_add(value);
        maybe_delay();
        return before;
    }
    T fetch_sub(T value) { return fetch_add(-value); }

 private:
    atomic<T> value_{};
};

}  // namespace std

#define atomic delayed_atomic
