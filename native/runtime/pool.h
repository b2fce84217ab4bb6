// Threads of our own. Work is handed over as numbered pieces; how many there are must depend on shapes only, and which
// thread runs a piece is free. A sum over pieces is made by the caller, in piece order: so bits never depend on
// threads.
#pragma once

namespace fovea {

// Any number from 1 to max_threads; takes effect at the next region. Throws std::invalid_argument otherwise.
constexpr int max_threads = 256;
void set_threads(int n);
int get_threads();

// While one lives (with `on`), regions that the calling thread opens run on it alone: work that is done before another
// thread would be awake.
class CallingThreadOnly {
  public:
    explicit CallingThreadOnly(bool on);
    ~CallingThreadOnly();
    CallingThreadOnly(const CallingThreadOnly&) = delete;
    CallingThreadOnly& operator=(const CallingThreadOnly&) = delete;

  private:
    bool before_;
};

// What a thread has opened while it watches: how many regions, how long the longest took, and its pieces.
struct Regions {
    long count, pieces;
    double nanoseconds;
};
// Begins (or ends) to watch the regions that the calling thread opens outside of others; returns what it saw so far.
Regions watch_regions(bool on);

using PieceFunction = void (*)(const void* body, long piece);
void run_pieces(long pieces, PieceFunction function, const void* body);

// Runs body(piece) for every piece in [0, pieces) and returns when all are done. One piece stays on the calling thread;
// so does everything when another Python thread holds the pool, or inside of a piece.
template <class Body>
inline void parallel(long pieces, const Body& body) {
    run_pieces(pieces, [](const void* b, long piece) { (*static_cast<const Body*>(b))(piece); }, &body);
}

}  // namespace fovea
