// Rows of many streams, taken stream by stream on several threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "loop.hpp"

namespace streamrde {

struct Rows {
    double* table;
    std::ptrdiff_t slots_in_table;
    const std::int64_t* slots;
    const double *t, *x;
    std::ptrdiff_t count;
};

// Loop::push, or without `drop` Loop::check before it. A stream's rows are taken one after the other, which lets its pieces
// be folded as runs and its row stay in the cache; streams are split over threads. What comes of it, and its order, which
// is that of the rows that caused it, depend on neither.
// Each thread has its part of the `windows` that time may close.
Refusal push_streams(Loop& loop, const Rows& rows, bool drop, int threads, std::int64_t windows, Outcome& outcome);

}  // namespace streamrde
