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

// Regions that the calling thread has opened since it last asked, and the fewest pieces that one of them had.
struct Regions {
    long count, fewest;
};
Regions take_regions();

using PieceFunction = void (*)(const void* body, long piece);
void run_pieces(long pieces, PieceFunction function, const void* body);

// Runs body(piece) for every piece in [0, pieces) and returns when all are done. One piece stays on the calling thread;
// so does everything when another Python thread holds the pool, or inside of a piece.
template <class Body>
inline void parallel(long pieces, const Body& body) {
    run_pieces(pieces, [](const void* b, long piece) { (*static_cast<const Body*>(b))(piece); }, &body);
}

}  // namespace fovea
