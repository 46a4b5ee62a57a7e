#include "pool.h"

#include <time.h>

#include "float_mode.h"

namespace {

// How long an idle thread looks for work before it sleeps. Waking a thread takes about 50 us; the
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

// Calls `ready` until it returns true or SPIN_NS have passed. Returns its last result.
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

}  // namespace

void ParallelLoop::publish(Phase phase, int items, int threads) {
    number_ = number_ == UINT32_MAX ? 1 : number_ + 1;
    phase_ = phase;
    unfinished_.store(items, std::memory_order_relaxed);
    for (int i = 0; i < threads; i++)
        slots_[i].range.store(
            {number_, uint16_t(items * i / threads), uint16_t(items * (i + 1) / threads)});
    open_.store(number_);
}

bool ParallelLoop::work(int thread, int threads) {
    uint32_t number = open_.load();
    int item;
    if (!number ||
        (!claim_own(number, thread, &item) && !claim_others(number, thread, threads, &item)))
        return false;
    // phase_ does not change before this item is finished.
    phase_.call(phase_.function, item, thread);
    unfinished_.fetch_sub(1);
    return true;
}

bool ParallelLoop::claim_own(uint32_t number, int thread, int* item) {
    std::atomic<Range>& own = slots_[thread].range;
    Range range = own.load();
    do {
        if (range.number != number || range.next == range.end) return false;
        *item = range.next;
    } while (
        !own.compare_exchange_weak(range, {range.number, uint16_t(range.next + 1), range.end}));
    return true;
}

// Takes the second half of another thread's range: returns the first item, and keeps the rest as
// its own range.
bool ParallelLoop::claim_others(uint32_t number, int thread, int threads, int* item) {
    for (int i = 1; i < threads; i++) {
        std::atomic<Range>& other = slots_[(thread + i) % threads].range;
        Range range = other.load();
        while (range.number == number && range.next != range.end) {
            uint16_t middle = range.next + (range.end - range.next) / 2;
            if (!other.compare_exchange_weak(range, {number, range.next, middle})) continue;
            *item = middle;
            slots_[thread].range.store({number, uint16_t(middle + 1), range.end});
            return true;
        }
    }
    return false;
}

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

void Pool::run(int loop, int thread, int items, bool help, Phase phase) {
    ParallelLoop& own = loops_[loop];
    own.publish(phase, items, threads_);
    published_.fetch_add(1);
    wake_sleepers();
    while (!own.finished()) {
        uint64_t seen = published_.load();
        auto worked = [&] { return own.work(thread, threads_) || (help && work_for_any(thread)); };
        if (spin([&] { return worked() || own.finished(); })) continue;
        sleep_until([&] { return own.finished() || (help && published_.load() != seen); });
    }
    own.close();
}

void* Pool::thread_main(void* argument) {
    FloatMode mode;
    Start* start = static_cast<Start*>(argument);
    start->pool->serve(start->thread);
    return nullptr;
}

void Pool::serve(int thread) {
    while (!stopping_.load()) {
        uint64_t seen = published_.load();
        if (spin([&] { return stopping_.load() || work_for_any(thread); })) continue;
        sleep_until([&] { return stopping_.load() || published_.load() != seen; });
    }
}

bool Pool::work_for_any(int thread) {
    for (int loop = 0; loop <= threads_; loop++) {
        if (!loops_[loop].work(thread, threads_)) continue;
        if (loops_[loop].finished()) wake_sleepers();
        return true;
    }
    return false;
}

// A sleeping thread increments `sleepers_` before it tests its condition. A thread that changes the
// condition reads `sleepers_` afterwards. So at least one of the two sees the other.
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
