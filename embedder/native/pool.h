// Threads that claim work item by item.
//
// A crew works on one phase at a time: its leader publishes a function and a number of items, and the leader
// and every thread that has nothing else to do claim items until none is left. The leader then waits only
// for items that others have claimed and not finished, so a thread that the kernel has taken off its core
// holds up one item and never a whole share. Crew 0 belongs to the thread that called the engine, and its
// items are packs; crew 1 + i belongs to thread i while it runs a pack.
#pragma once
#include <pthread.h>
#include <stdint.h>

#include <atomic>

#include "model.h"

constexpr int MAX_THREADS = 64;

// What a thread is asked to do with the items first <= item < last of a phase.
struct Phase {
    void (*call)(const void* function, int first, int last, int thread);
    const void* function;
};

struct alignas(64) Crew {
    std::atomic<uint64_t> ticket{0};  // of the phase: number (23 bits), shared (1), items (20), next item (20)
    std::atomic<int> finished{0};     // items of the phase
    Phase phase;
};

class Pool {
   public:
    // Starts threads - 1 threads. Check `started` afterwards.
    explicit Pool(int threads);
    ~Pool();

    int threads() const { return threads_; }
    bool started() const { return started_ == threads_; }

    // Calls f(item, thread) for every item, on whatever thread is free.
    template <class F>
    void each(int items, const F& f) {
        auto call = [](const void* function, int first, int last, int thread) {
            for (int item = first; item < last; item++) (*static_cast<const F*>(function))(item, thread);
        };
        run(0, 0, items, false, true, {call, &f});
    }

    // Runs `phase` on items 0 <= item < items and returns when all are finished. Called by thread `thread`,
    // the leader of `crew`. With `shared` a claim takes a share of the items that are left, so that many
    // short items need few claims; otherwise one. `help`: work for other crews while waiting.
    void run(int crew, int thread, int items, bool shared, bool help, Phase phase);

   private:
    static void* thread_main(void* argument);
    void work(int thread);
    bool claim(Crew& crew, int thread);
    bool claim_any(int thread);
    void finish(Crew& crew, int items, int thread, bool help);
    template <class Ready>
    void sleep_until(Ready ready);
    void wake_sleepers();

    struct Start {
        Pool* pool;
        int thread;
    };

    const int threads_;
    int started_ = 1;
    Crew crews_[MAX_THREADS + 1];
    std::atomic<uint64_t> published_{0};  // phases so far, of all crews
    std::atomic<int> sleepers_{0};
    std::atomic<bool> stopping_{false};
    pthread_mutex_t mutex_;
    pthread_cond_t changed_;
    pthread_t handles_[MAX_THREADS];
    Start starts_[MAX_THREADS];
};

// The threads that work on one pack: all of them, or the leader alone.
class Team {
   public:
    ALWAYS_INLINE Team(Pool& pool, int thread, bool alone) : pool_(pool), thread_(thread), alone_(alone) {}

    ALWAYS_INLINE int thread() const { return thread_; }
    ALWAYS_INLINE Team leader(int thread) const { return Team(pool_, thread, true); }  // one of the team, by itself

    // Calls f(first, last, thread) for shares of 0 <= item < count, each a whole number of `grain` items.
    template <class F>
    void share(int count, int grain, const F& f) const {
        if (alone_ || count <= grain) return f(0, count, thread_);
        auto shares = [&](int first, int last, int thread) {
            f(first * grain, last * grain < count ? last * grain : count, thread);
        };
        run((count + grain - 1) / grain, true, shares);
    }
    // Calls f(item, thread) for every item, one claim each.
    template <class F>
    void each(int count, const F& f) const {
        auto items = [&](int first, int last, int thread) {
            for (int item = first; item < last; item++) f(item, thread);
        };
        if (alone_ || count == 1) return items(0, count, thread_);
        run(count, false, items);
    }

   private:
    template <class F>
    void run(int count, bool shared, const F& f) const {
        auto call = [](const void* function, int first, int last, int thread) {
            (*static_cast<const F*>(function))(first, last, thread);
        };
        pool_.run(1 + thread_, thread_, count, shared, false, {call, &f});
    }

    Pool& pool_;
    int thread_;
    bool alone_;
};
