#include "runtime/pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

#include "runtime/denormal.h"

namespace fovea {
namespace {

inline void pause_cpu() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

int available_cpus() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    const unsigned n = std::thread::hardware_concurrency();
    return n ? static_cast<int>(n) : 1;
}

thread_local bool inside_piece = false;
thread_local bool watching = false;
thread_local Regions watched{0, 0, 0};

// A region is open while `open` holds its number. A worker counts itself in, looks whether the region is still open,
// and only then reads what to do; the caller closes the region when no piece is left and waits for those inside. A
// worker that sleeps or comes late is not waited for.
//
// Every thread begins with a share of its own, neighbouring pieces, and then helps the others with theirs. Pieces are
// mostly rows in order: so a core finds in its caches what it wrote in the region before, and lines that another core
// has read, which are slow to write, are few.
class Pool {
  public:
    explicit Pool(int threads) : shares_(static_cast<size_t>(threads)) {
        for (size_t i = 1; i < shares_.size(); i++) workers_.emplace_back([this, i] { work(i); });
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(sleep_mutex_);
            stop_ = true;
            wakes_++;
        }
        sleep_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    void run(long pieces, PieceFunction function, const void* body) {
        function_ = function;
        body_ = body;
        const long threads = static_cast<long>(shares_.size());
        for (long i = 0; i < threads; i++) {
            Share& share = shares_[static_cast<size_t>(i)];
            share.next.store(pieces * i / threads, std::memory_order_relaxed);
            share.end = pieces * (i + 1) / threads;
        }
        if (++region_ == 0) region_ = 1;  // 0 means closed
        open_.store(region_);
        if (sleepers_.load() > 0) wake();
        drain(0);
        open_.store(0);
        for (int spins = 0; inside_.load() != 0; spins++) {
            if (spins < 1000)
                pause_cpu();
            else
                std::this_thread::yield();  // a worker in the middle of a piece may be waiting for this core
        }
    }

  private:
    struct alignas(64) Share {
        std::atomic<long> next{0};
        long end = 0;
    };

    void drain(size_t own) {
        inside_piece = true;
        for (size_t i = 0; i < shares_.size(); i++) {
            Share& share = shares_[own + i < shares_.size() ? own + i : own + i - shares_.size()];
            while (share.next.load(std::memory_order_relaxed) < share.end) {
                const long piece = share.next.fetch_add(1, std::memory_order_relaxed);
                if (piece < share.end) function_(body_, piece);
            }
        }
        inside_piece = false;
    }

    void wake() {
        {
            std::lock_guard<std::mutex> lock(sleep_mutex_);
            wakes_++;
        }
        sleep_.notify_all();
    }

    void work(size_t own) {
        const FlushDenormals flush;
        uint32_t seen = 0;
        while (!stop_) {
            const uint32_t region = wait(seen);
            if (region == 0) continue;
            seen = region;
            inside_.fetch_add(1);
            if (open_.load() == region) drain(own);
            inside_.fetch_sub(1);
        }
    }

    // The next region's number, or 0 after a sleep. Regions of a training step follow each other within microseconds;
    // 0.3 ms of spinning covers them and leaves the core to others soon after the step. No yield here: with one, some
    // runs of LeNet-5 (1 of 6, against 0 of 18) went at half speed from beginning to end, as if both threads shared a
    // core.
    uint32_t wait(uint32_t seen) {
        const auto start = std::chrono::steady_clock::now();
        for (;;) {
            for (int i = 0; i < 64; i++) {
                const uint32_t region = open_.load();
                if (region != 0 && region != seen) return region;
                pause_cpu();
            }
            if (std::chrono::steady_clock::now() - start > std::chrono::microseconds(300)) break;
        }
        std::unique_lock<std::mutex> lock(sleep_mutex_);
        sleepers_.fetch_add(1);
        const uint32_t region = open_.load();  // opened before we were counted as asleep: nobody would wake us
        if ((region == 0 || region == seen) && !stop_) {
            const uint64_t before = wakes_;
            sleep_.wait(lock, [&] { return wakes_ != before; });
        }
        sleepers_.fetch_sub(1);
        return 0;
    }

    std::vector<Share> shares_;
    std::vector<std::thread> workers_;
    PieceFunction function_ = nullptr;
    const void* body_ = nullptr;
    uint32_t region_ = 0;
    alignas(64) std::atomic<uint32_t> open_{0};
    alignas(64) std::atomic<int> inside_{0};
    alignas(64) std::atomic<int> sleepers_{0};
    std::atomic<bool> stop_{false};
    std::mutex sleep_mutex_;
    std::condition_variable sleep_;
    uint64_t wakes_ = 0;
};

// Never destroyed: at the end of the process the threads end with it. A forked child has none of the parent's threads
// and perhaps a locked mutex, so it gets a new state and leaves the old one alone.
struct State {
    std::mutex busy;
    Pool* pool = nullptr;
    int pool_threads = 0;
    std::atomic<int> threads{available_cpus()};
};

std::atomic<State*> state_pointer{nullptr};

void after_fork_in_child() {
    State* old = state_pointer.load();
    if (!old) return;
    State* fresh = new State;
    fresh->threads = old->threads.load();
    state_pointer = fresh;
    inside_piece = false;
}

State& state() {
    if (State* s = state_pointer.load(std::memory_order_acquire)) return *s;
    static State* first = [] {
        pthread_atfork(nullptr, nullptr, after_fork_in_child);
        State* s = new State;
        state_pointer = s;
        return s;
    }();
    return *first;
}

}  // namespace

void set_threads(int n) {
    if (n < 1 || n > max_threads)
        throw std::invalid_argument("threads must be 1 to " + std::to_string(max_threads) + ", got " +
                                    std::to_string(n));
    state().threads = n;
}

int get_threads() { return state().threads; }

CallingThreadOnly::CallingThreadOnly(bool on) : before_(inside_piece) { inside_piece = inside_piece || on; }
CallingThreadOnly::~CallingThreadOnly() { inside_piece = before_; }

static void run_region(long pieces, PieceFunction function, const void* body) {
    if (pieces > 1 && !inside_piece) {
        State& s = state();
        std::unique_lock<std::mutex> lock(s.busy, std::try_to_lock);
        if (lock.owns_lock()) {
            const int threads = s.threads;
            if (s.pool_threads != threads) {
                delete s.pool;
                s.pool = new Pool(threads);
                s.pool_threads = threads;
            }
            if (threads > 1) return s.pool->run(pieces, function, body);
        }
    }
    for (long piece = 0; piece < pieces; piece++) function(body, piece);
}

void run_pieces(long pieces, PieceFunction function, const void* body) {
    if (!watching || inside_piece) return run_region(pieces, function, body);
    const auto start = std::chrono::steady_clock::now();
    run_region(pieces, function, body);
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    watched.count++;
    if (took.count() > watched.nanoseconds) watched.nanoseconds = took.count(), watched.pieces = pieces;
}

Regions watch_regions(bool on) {
    const Regions result = watched;
    watching = on;
    watched = {0, 0, 0};
    return result;
}

}  // namespace fovea
