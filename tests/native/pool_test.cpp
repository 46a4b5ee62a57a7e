// The thread pool runs every item once, on a thread that does nothing else at the same time, and
// its writes are visible afterwards.
//
//     pool_test SECONDS
//
// Hangs if a phase is never finished, so it has to be run with a time limit.
#include "pool.h"

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort(); \
        }                                                                            \
    } while (0)

namespace {

double seconds() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

// Sleeps about as long as a thread spins before it sleeps.
void wait_about_as_long_as_threads_spin() {
    timespec time = {0, long(random_bits() % 300'000)};
    nanosleep(&time, nullptr);
}

// One in 64 items takes so long that threads that wait for it go to sleep.
void work() {
    if (random_bits() % 64 == 0) return wait_about_as_long_as_threads_spin();
    for (volatile int i = random_bits() % 1024; i > 0; i = i - 1) {
    }
}

// The state of each thread, in plain variables, so that ThreadSanitizer detects two threads of one
// number.
struct Busy {
    int depth[MAX_THREADS] = {};

    void enter(int thread, int threads, int depth_before) {
        CHECK(0 <= thread && thread < threads);
        CHECK(depth[thread]++ == depth_before);
    }
    void leave(int thread) { depth[thread]--; }
};

// Runs a phase whose leader is already inside of `depth` others.
void share(Pool& pool, Busy& busy, int leader, int depth, int count, int grain) {
    std::vector<int> done(count);  // not atomic: the leader reads what others wrote
    Team(pool, leader, false).share(count, grain, [&](int first, int last, int thread) {
        CHECK(last - first == grain || last == count);
        busy.enter(thread, pool.threads(), thread == leader ? depth : 0);
        for (int i = first; i < last; i++) done[i]++;
        work();
        busy.leave(thread);
    });
    for (int times : done) CHECK(times == 1);
}

// Like one text: short phases, one after the other.
void short_phases(int threads) {
    Pool pool(threads);
    CHECK(pool.started());
    Busy busy;
    for (int phase = 0; phase < 200; phase++)
        share(pool, busy, 0, 0, 1 + random_bits() % 65, 1 + random_bits() % 3);
}

// Like many texts: packs, each with several phases, which the thread that claimed it leads.
void several_leaders(int threads) {
    Pool pool(threads);
    Busy busy;
    for (int round = 0; round < 10; round++) {
        int packs = 2 + random_bits() % 12;
        std::vector<int> done(packs);
        pool.each(packs, [&](int pack, int thread) {
            busy.enter(thread, threads, 0);
            done[pack]++;
            for (int phase = random_bits() % 12; phase > 0; phase--)
                share(pool, busy, thread, 1, 1 + random_bits() % 20, 1);
            busy.leave(thread);
        });
        for (int times : done) CHECK(times == 1);
    }
}

// Threads sleep before each phase, or are about to. Its items wait for each other, so all threads
// must wake up.
void sleeping_threads(int threads) {
    Pool pool(threads);
    for (int phase = 0; phase < 20; phase++) {
        wait_about_as_long_as_threads_spin();
        std::atomic<int> started{0};
        pool.each(threads, [&](int, int) {
            started.fetch_add(1);
            while (started.load() < threads) sched_yield();
        });
    }
}

// The last item is finished just when the leader, after spinning for 0.1 ms, goes to sleep.
void late_items() {
    Pool pool(2);
    for (int phase = 0; phase < 200; phase++)
        pool.each(2, [&](int item, int) {
            double end = seconds() + (item ? 90e-6 + random_bits() % 64 * 1e-6 : 0);
            while (seconds() < end) {
            }
        });
}

void open_and_close(int threads) {
    for (int round = 0; round < 10; round++) {
        Pool pool(threads);
        Busy busy;
        for (int phase = random_bits() % 3; phase > 0; phase--) share(pool, busy, 0, 0, 8, 1);
        if (random_bits() % 2) wait_about_as_long_as_threads_spin();
    }
}

void max_items(int threads) {
    Pool pool(threads);
    std::vector<uint8_t> done(ParallelLoop::MAX_ITEMS);
    pool.each(ParallelLoop::MAX_ITEMS, [&](int item, int) { done[item]++; });
    for (uint8_t times : done) CHECK(times == 1);
}

}  // namespace

int main(int argc, char** argv) {
    double end = seconds() + (argc > 1 ? atof(argv[1]) : 1);
    max_items(3);
    int rounds = 0;
    do {
        int threads = 1 + rounds % 8;
        short_phases(threads), several_leaders(threads), sleeping_threads(threads), late_items(),
            open_and_close(threads);
        rounds++;
    } while (seconds() < end || rounds < 8);
    printf("%d rounds\n", rounds);
}
