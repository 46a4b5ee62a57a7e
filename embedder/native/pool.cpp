#include "pool.h"

#include <time.h>

namespace {

// A thread that finds no work looks for it this long before it sleeps. Waking a thread takes about 50 us; the
// phases of one short text are 5 to 50 us apart.
constexpr int64_t SPIN_NS = 100'000;

int64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");  // about 10 ns; `yield` does nothing on these cores
#endif
}

// Calls `ready` until it is true, or SPIN_NS have passed. Returns what it said last.
template <class Ready>
bool spin(Ready ready) {
    int64_t deadline = 0;
    for (int count = 1;; count++) {
        if (ready()) return true;
        pause();
        if (count % 32) continue;
        int64_t time = now();
        if (!deadline) deadline = time + SPIN_NS;
        if (time > deadline) return false;
    }
}

constexpr uint64_t ITEMS_BIT = 20, SHARED_BIT = 40, NUMBER_BIT = 41, MASK = (1 << 20) - 1;

}  // namespace

Pool::Pool(int threads) : threads_(threads) {
    pthread_mutex_init(&mutex_, nullptr);
    pthread_cond_init(&changed_, nullptr);
    for (; started_ < threads_; started_++) {
        starts_[started_] = {this, started_};
        if (pthread_create(&handles_[started_], nullptr, thread_main, &starts_[started_])) return;
    }
}

Pool::~Pool() {
    stopping_ = true;
    wake_sleepers();
    for (int thread = 1; thread < started_; thread++) pthread_join(handles_[thread], nullptr);
    pthread_cond_destroy(&changed_);
    pthread_mutex_destroy(&mutex_);
}

void Pool::run(int crew, int thread, int items, bool shared, bool help, Phase phase) {
    Crew& own = crews_[crew];
    uint64_t number = (own.ticket.load(std::memory_order_relaxed) >> NUMBER_BIT) + 1;
    own.phase = phase;
    own.finished.store(0, std::memory_order_relaxed);
    own.ticket.store(number << NUMBER_BIT | uint64_t(shared) << SHARED_BIT | uint64_t(items) << ITEMS_BIT);
    published_.fetch_add(1);
    wake_sleepers();
    while (claim(own, thread)) {
    }
    finish(own, items, thread, help);
}

// Takes and finishes some items of the crew's phase; false when none is left.
bool Pool::claim(Crew& crew, int thread) {
    uint64_t ticket = crew.ticket.load();
    int first, taken;
    do {
        first = int(ticket & MASK);
        int left = int(ticket >> ITEMS_BIT & MASK) - first;
        if (left <= 0) return false;
        bool shared = ticket >> SHARED_BIT & 1;
        taken = shared ? (left + 2 * threads_ - 1) / (2 * threads_) : 1;
    } while (!crew.ticket.compare_exchange_weak(ticket, ticket + taken));
    // The phase stays as it is until all of its items are finished, these among them.
    crew.phase.call(crew.phase.function, first, first + taken, thread);
    int items = int(ticket >> ITEMS_BIT & MASK);
    if (crew.finished.fetch_add(taken) + taken == items) wake_sleepers();
    return true;
}

bool Pool::claim_any(int thread) {
    for (int crew = 0; crew <= threads_; crew++)
        if (claim(crews_[crew], thread)) return true;
    return false;
}

// Waits for items that other threads have claimed.
void Pool::finish(Crew& crew, int items, int thread, bool help) {
    auto finished = [&] { return crew.finished.load() == items; };
    while (!finished()) {
        uint64_t seen = published_.load();
        if (spin([&] { return finished() || (help && claim_any(thread)); })) continue;
        sleep_until([&] { return finished() || (help && published_.load() != seen); });
    }
}

void* Pool::thread_main(void* argument) {
    Start* start = static_cast<Start*>(argument);
    start->pool->work(start->thread);
    return nullptr;
}

void Pool::work(int thread) {
    while (!stopping_.load()) {
        uint64_t seen = published_.load();
        if (spin([&] { return stopping_.load() || claim_any(thread); })) continue;
        sleep_until([&] { return stopping_.load() || published_.load() != seen; });
    }
}

// A sleeper counts itself before it looks at what it waits for, and whoever changes that changes it before
// looking at the count: one of the two sees the other.
template <class Ready>
void Pool::sleep_until(Ready ready) {
    sleepers_.fetch_add(1);
    pthread_mutex_lock(&mutex_);
    while (!ready()) pthread_cond_wait(&changed_, &mutex_);
    pthread_mutex_unlock(&mutex_);
    sleepers_.fetch_sub(1);
}

void Pool::wake_sleepers() {
    if (!sleepers_.load()) return;
    pthread_mutex_lock(&mutex_);
    pthread_cond_broadcast(&changed_);
    pthread_mutex_unlock(&mutex_);
}
