// The usual case, many rows at a time: complete samples in order, no edge in time between them, nothing held.
//
// What `take`, `settle` and `extend` do with such a row, and to the bit, without what they look at for all others.
#include <cmath>
#include <cstring>

#include "loop.hpp"

namespace streamrde {

bool Loop::plain(const double* row) const {
    if (row[started] == 0 || row[paused] != 0 || row[held] != 0 || row[refused] != 0) return false;
    if (partition_.hold) return true;
    for (int i = 0; i < layout_.channels; ++i)
        if (row[layout_.seen + i] == 0) return false;
    return true;
}

std::ptrdiff_t Loop::push_plain(Stream& stream, const double* t, const double* x, const std::ptrdiff_t* indices,
                                std::ptrdiff_t count) const {
    double* row = stream.row;
    if (!simple_ || !plain(row)) return 0;
    const int channels = layout_.channels, size = layout_.path();
    const bool every = partition_.policy == Policy::every;
    const double origin = row[t0], window_at = row[window] - row[first];
    double* values = row + layout_.x;
    double* signature = row + layout_.signature;
    Run& run = stream.run;
    if (run.signature != signature) fold_run(run);
    run.signature = signature;
    double low = 0, high = 0;
    if (every) {
        const double zero = anchor(origin);
        low = zero + window_at * partition_.length;
        high = zero + (window_at + 1) * partition_.length;
    }
    double before = row[ordered], at = row[cursor], pieces = 0;
    std::ptrdiff_t k = 0;
    for (; k < count; ++k) {
        const std::ptrdiff_t i = indices[k];
        if (k + ahead < count) {
            __builtin_prefetch(t + indices[k + ahead]);
            __builtin_prefetch(x + indices[k + ahead] * channels);
        }
        const double* sample = x + i * channels;
        const double time = t[i], u = time - origin;
        double finite = 0.0;  // 0 * x is 0 for a finite x and NaN for any other
        for (int c = 0; c < channels; ++c) finite += 0.0 * sample[c];
        if (!(time > before && u > at && time - before <= partition_.longest_gap && finite == 0.0)) break;
        if (every) {
            const double margin = 2 * edge_tolerance(origin, time);
            if (!(u > low + margin && u < high - margin)) break;
        }
        if (run.count + 2 > longest_run) fold_run(run);
        double* dx = run.pieces.data() + run.count * size;
        dx[0] = u - at;
        if (partition_.hold) {
            for (int c = 0; c < channels; ++c) dx[1 + c] = 0.0;
            dx += size;
            dx[0] = 0.0;
            ++run.count;
        }
        for (int c = 0; c < channels; ++c) {
            dx[1 + c] = sample[c] - values[c];
            values[c] = sample[c];
        }
        ++run.count;
        pieces += every && partition_.hold ? 2 : 1;
        before = time;
        at = u;
        if (!every && row[filled] + pieces == static_cast<double>(partition_.n)) {
            row[last] = time;
            row[cursor] = u;
            stream.cause = i;
            close_window(stream, time, values, true);
            pieces = 0;
        }
    }
    if (k == 0) return 0;
    row[filled] += pieces;
    row[samples] += static_cast<double>(k);
    row[ordered] = row[last] = before;
    if (before > row[top]) row[top] = before;
    row[cursor] = at;
    return k;
}

}  // namespace streamrde
