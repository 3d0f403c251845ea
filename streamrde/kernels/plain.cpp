// The usual case, many rows at a time: complete samples in order, no edge in time between them, nothing held.
//
// Does to such a row what `add`, `settle` and `extend` do, to the bit, and skips what only other rows need.
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
    const double origin = row[t0];
    const Quiet quiet = policy_->quiet(open_window(row));
    const bool edges = quiet.low > -Policy::never || quiet.high < Policy::never;
    double* values = row + layout_.x;
    double* signature = row + layout_.signature;
    Run& run = stream.run;
    if (run.signature != signature) fold_run(run);
    run.signature = signature;
    double before = row[ordered], at = row[cursor], pieces = 0, samples_in = 0;
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
        if (edges) {
            const double margin = 2 * policy_->edge_tolerance(origin, time);
            if (!(u > quiet.low + margin && u < quiet.high - margin)) break;
        }
        if (run.count + 2 > longest_run) fold_run(run);
        double* dx = run.pieces.data() + run.count * size;
        if (layout_.time) dx[0] = u - at;
        if (partition_.hold) {
            for (int c = 0; c < channels; ++c) dx[layout_.time + c] = 0.0;
            dx += size;
            if (layout_.time) dx[0] = 0.0;
            ++run.count;
        }
        for (int c = 0; c < channels; ++c) {
            dx[layout_.time + c] = sample[c] - values[c];
            values[c] = sample[c];
        }
        ++run.count;
        pieces += partition_.hold ? 2 : 1;
        samples_in += 1;
        before = time;
        at = u;
        if (row[counter_] + samples_in == quiet.samples) {
            row[last] = time;
            row[cursor] = u;
            stream.cause = i;
            close_window(stream, time, values, true);
            pieces = samples_in = 0;
        }
    }
    if (k == 0) return 0;
    if (!policy_->by_count) row[filled] += pieces;
    row[counter_] += samples_in;
    row[samples] += static_cast<double>(k);
    row[ordered] = row[last] = before;
    if (before > row[top]) row[top] = before;
    row[cursor] = at;
    return k;
}

}  // namespace streamrde
