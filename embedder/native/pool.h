// A thread pool with work stealing.
//
// A parallel loop runs one phase at a time: its leader publishes a function and a number of items,
// and the leader and every idle thread work on them. Each thread starts with a range of its own, so
// that it reads memory in order. When its range is finished, it takes half of another thread's.
// The leader then waits only for items that are claimed and not finished, so a descheduled thread
// delays one item and never a whole range. Loop 0 belongs to the thread that called the engine, and
// its items are packs. Loop 1 + i belongs to thread i while it runs a pack.
#pragma once
#include <pthread.h>
#include <stdint.h>

#include <atomic>

#include "inline.h"

constexpr int MAX_THREADS = 64;

// The function that a phase calls for each item.
struct Phase {
    void (*call)(const void* function, int item, int thread);
    const void* function;
};

// Items next <= item < end of the phase `number`. One word, so that a claim is a single
// compare-and-swap, which fails when the phase is over.
struct Range {
    uint32_t number;
    uint16_t next, end;
};

class ParallelLoop {
 public:
    static constexpr int MAX_ITEMS = UINT16_MAX;

    // Opens a phase. Every thread's range is an equal part of its items.
    void publish(Phase phase, int items, int threads);
    // Claims and runs an item. Returns false when none is left.
    bool work(int thread, int threads);
    void close() { open_.store(0); }
    bool finished() const { return unfinished_.load() == 0; }

 private:
    bool claim_own(uint32_t number, int thread, int* item);
    bool claim_others(uint32_t number, int thread, int threads, int* item);

    struct alignas(64) Slot {
        std::atomic<Range> range{};
    };
    alignas(64) std::atomic<int> unfinished_{0};
    // The running phase, 0 for none. Set after all ranges, because a thread that is late from the
    // phase before must not take items while some ranges are not written yet.
    std::atomic<uint32_t> open_{0};
    uint32_t number_ = 0;
    Phase phase_;
    Slot slots_[MAX_THREADS];
};

class Pool {
 public:
    // Starts threads - 1 threads. `started` tells whether all of them run.
    explicit Pool(int threads);
    ~Pool();

    ALWAYS_INLINE int threads() const { return threads_; }
    bool started() const { return started_ == threads_; }

    // Calls f(item, thread) for every item, on any thread.
    template <class F>
    void each(int items, const F& f) {
        run(0, 0, items, true, phase_of(f));
    }

    // Runs `phase` on items 0 <= item < items and returns when all are finished. Called by thread
    // `thread`, the leader of `loop`. `help`: work on other loops while waiting.
    void run(int loop, int thread, int items, bool help, Phase phase);

    template <class F>
    static Phase phase_of(const F& f) {
        auto call = [](const void* function, int item, int thread) {
            (*static_cast<const F*>(function))(item, thread);
        };
        return {call, &f};
    }

 private:
    static void* thread_main(void* argument);
    void serve(int thread);
    bool work_for_any(int thread);
    template <class Ready>
    void sleep_until(Ready ready);
    void wake_sleepers();

    struct Start {
        Pool* pool;
        int thread;
    };

    const int threads_;
    int started_ = 1;
    ParallelLoop loops_[MAX_THREADS + 1];
    std::atomic<uint64_t> published_{0};  // phases so far, of all loops
    std::atomic<int> sleepers_{0};
    std::atomic<bool> stopping_{false};
    pthread_mutex_t mutex_;
    pthread_cond_t changed_;
    pthread_t handles_[MAX_THREADS];
    Start starts_[MAX_THREADS];
};

// The threads that work on one pack: all of them, or only the leader.
class Team {
 public:
    ALWAYS_INLINE Team(Pool& pool, int thread, bool alone)
        : pool_(pool), thread_(thread), alone_(alone) {}

    ALWAYS_INLINE int thread() const { return thread_; }
    ALWAYS_INLINE int size() const { return pool_.threads(); }
    // A team of one thread.
    ALWAYS_INLINE Team leader(int thread) const { return Team(pool_, thread, true); }

    // Calls f(first, last, thread) for parts of 0 <= i < count of `grain` each.
    template <class F>
    void share(int count, int grain, const F& f) const {
        if (alone_ || count <= grain) return f(0, count, thread_);
        auto part = [&](int item, int thread) {
            int first = item * grain;
            f(first, first + grain < count ? first + grain : count, thread);
        };
        pool_.run(1 + thread_, thread_, (count + grain - 1) / grain, false, Pool::phase_of(part));
    }

 private:
    Pool& pool_;
    int thread_;
    bool alone_;
};
