// From complete samples in order to windows that close: the twin of windowing/walk.py.
#include <cmath>
#include <cstring>
#include <utility>

#include "walk.hpp"

namespace streamrde {

Walk::Walk(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Kernel kernel, WordTable words,
           Tokens tokens)
    : layout_(layout),
      partition_(partition),
      policy_(std::move(policy)),
      counter_(policy_->by_count ? filled : window_samples),
      kernel_(kernel),
      words_(std::move(words)),
      tokens_(std::move(tokens)),
      token_size_(static_cast<std::ptrdiff_t>(tokens_.size())),
      signature_size_(0) {
    std::ptrdiff_t power = 1;
    for (int k = 0; k < layout.depth; ++k) signature_size_ += (power *= layout.path());
}

std::ptrdiff_t Walk::scratch_size() const {
    // settle: a sample and its flags; extend: a piece, values left, right, next; closes: a log-signature; close_window: values.
    return 2 * layout_.channels + 1 + 5 * layout_.values() + static_cast<std::ptrdiff_t>(words_.size());
}

Scratch Walk::scratch() const {
    return {std::vector<double>(scratch_size()), {}, {std::vector<double>(longest_run * layout_.path())}, {}};
}

bool Walk::starts_segment(const double* row, double previous, double t) const {
    return row[paused] != 0 || t - previous > partition_.longest_gap;
}

bool Walk::keeps_episode(const double* row) const { return row[paused] != 0 ? partition_.resumes : partition_.carry; }

bool Walk::add_sample(Stream& stream, double t, const double* data, const double* observed) const {
    double* row = stream.row;
    if (row[started] == 0) {
        begin_segment(stream, t, data, observed, true);
        return true;
    }
    if (!starts_segment(row, row[last], t)) return extend(stream, t, data, observed);
    if (partition_.holds != 0 && row[paused] == 0 && !pass_time(stream, row[last] + partition_.holds)) return false;
    end_segment(stream);
    if (row[paused] == 0) {
        row[cuts] += 1;
        stream.outcome.cuts.push_back({stream.slot, t - row[last]});
    }
    begin_segment(stream, t, data, observed, !keeps_episode(row));
    return true;
}

bool Walk::pass_time(Stream& stream, double t) const {
    double* row = stream.row;
    if (!partition_.hold || row[started] == 0 || row[paused] != 0) return true;
    if (t - row[last] > partition_.longest_gap) t = row[last] + partition_.holds;
    double u = t - row[t0];
    policy_->find_edges(open_window(row), t, u, stream.edges);
    double* dx = stream.work + 2 * layout_.channels;
    for (const double at : stream.edges) {
        if (!stream.budget.spend()) return false;
        move_time(stream, at, dx);
        close_window(stream, policy_->edge_time(open_window(row), at), row + layout_.x, has_sample(row));
    }
    return true;
}

void Walk::end_segment(Stream& stream) const {
    if (stream.row[filled] != 0) close_window(stream, stream.row[last], stream.row + layout_.x, has_sample(stream.row));
}

void Walk::begin_segment(Stream& stream, double t, const double* data, const double* observed, bool new_episode) const {
    double* row = stream.row;
    const int channels = layout_.channels;
    double* x = row + layout_.x;
    std::memcpy(x, data, channels * sizeof(double));
    double* next = x + channels;
    if (layout_.counts) {
        for (int i = 0; i < channels; ++i) next[i] = new_episode ? observed[i] : next[i] + observed[i];
        next += channels;
    }
    if (layout_.elapsed)
        for (int i = 0; i < channels; ++i) next[i] = 0.0;
    row[started] = 1;
    row[paused] = 0;
    row[t0] = row[last] = row[start] = t;
    row[cursor] = row[filled] = row[window_samples] = 0;
    row[segment_window] = row[window];
    if (new_episode) {
        row[episode_window] = row[window];
        row[episode] += 1;
        Outcome& outcome = stream.outcome;
        outcome.episodes.push_back({stream.slot, static_cast<std::int64_t>(row[episode]), stream.cause});
        outcome.origins.insert(outcome.origins.end(), x, x + layout_.values());
        tokens_.forget(row);
    }
    tokens_.summarise(row, t, data, observed, stream.factors);
}

bool Walk::extend(Stream& stream, double t, const double* data, const double* observed) const {
    double* row = stream.row;
    const int channels = layout_.channels, values = layout_.values(), clocks = layout_.elapsed ? channels : 0;
    const int plain = values - clocks;
    double* x = row + layout_.x;
    double* dx = stream.work + 2 * channels;  // one piece, time first
    double* left = dx + 1 + values;           // linear: the path's values where the piece begins
    double* right = left + values;            // and at the sample
    double* next = right + values;            // what is kept of the sample; of `elapsed` when it was 0
    std::vector<double>& edges = stream.edges;

    double u = t - row[t0];
    const bool on_edge = policy_->find_edges(open_window(row), t, u, edges);
    const double begins_at = row[cursor];
    double reached = row[walked] > 0 ? row[walked] : begins_at;  // linear: where the next piece begins
    std::memcpy(next, data, channels * sizeof(double));
    if (layout_.counts)
        for (int i = 0; i < channels; ++i) next[channels + i] = x[channels + i] + observed[i];
    for (int i = 0; i < clocks; ++i) next[plain + i] = observed[i] > 0 ? u : x[plain + i];

    const std::size_t moves = edges.size() + !on_edge;
    if (partition_.hold) {
        for (std::size_t j = 0; j < moves; ++j) {
            if (j < edges.size() && !stream.budget.spend()) return false;
            move_time(stream, j < edges.size() ? edges[j] : u, dx);
            if (j < edges.size())
                close_window(stream, policy_->edge_time(open_window(row), edges[j]), x, has_sample(row));
        }
        dx[0] = 0.0;
        for (int i = 0; i < plain; ++i) dx[1 + i] = next[i] - x[i];
        for (int i = plain; i < values; ++i) dx[1 + i] = (u - next[i]) - (u - x[i]);
        fold(stream, dx);
    } else {
        for (int i = 0; i < values; ++i) {
            left[i] = i < plain ? x[i] : begins_at - x[i];
            right[i] = i < plain ? next[i] : u - next[i];
        }
        const auto straight = [&](int i, double to) {
            const double from = i < plain ? x[i] : begins_at - x[i];
            return from + (to - begins_at) / (u - begins_at) * (right[i] - from);
        };
        if (row[walked] > 0)
            for (int i = 0; i < values; ++i) left[i] = straight(i, reached);
        for (std::size_t j = 0; j < moves; ++j) {
            if (j < edges.size() && !stream.budget.spend()) {
                row[walked] = reached;
                return false;
            }
            const double to = j == moves - 1 ? u : edges[j];
            dx[0] = to - reached;
            for (int i = 0; i < values; ++i) {
                const double at = j == moves - 1 ? right[i] : straight(i, to);
                dx[1 + i] = at - left[i];
                left[i] = at;
            }
            fold(stream, dx);
            reached = to;
            // The sample belongs to the window that ends with it.
            if (on_edge && j == moves - 1) tokens_.summarise(row, t, data, observed, stream.factors);
            if (j < edges.size())
                close_window(stream, policy_->edge_time(open_window(row), edges[j]), left,
                             (on_edge && j == moves - 1) || has_sample(row));
        }
        row[walked] = 0;
    }
    row[last] = t;
    row[cursor] = u;
    std::memcpy(x, next, values * sizeof(double));
    if (partition_.hold || !on_edge) {
        tokens_.summarise(row, t, data, observed, stream.factors);
        row[counter_] += 1;
    }
    if (row[filled] != 0 && closes(stream, next + values)) close_window(stream, t, x, true);
    return true;
}

OpenWindow Walk::open_window(const double* row) const {
    return {row[window] - row[segment_window], row[t0], row[start] - row[t0], row[cursor], row[counter_]};
}

bool Walk::closes(Stream& stream, double* log) const {
    const auto compute = [this, &stream, log]() -> const double* {
        fold_run(stream.run);
        kernel_.log(layout_.path(), layout_.depth, stream.row + layout_.signature, words_.words(), log);
        return log;
    };
    using Compute = decltype(compute);
    const LogSignature log_signature{[](const void* context) { return (*static_cast<Compute*>(context))(); }, &compute};
    return policy_->closes(open_window(stream.row), log_signature);
}

void Walk::move_time(Stream& stream, double to, double* dx) const {
    double* row = stream.row;
    const int values = layout_.values(), plain = values - (layout_.elapsed ? layout_.channels : 0);
    dx[0] = to - row[cursor];
    for (int i = 0; i < plain; ++i) dx[1 + i] = 0.0;
    for (int i = plain; i < values; ++i) dx[1 + i] = dx[0];
    fold(stream, dx);
    row[cursor] = to;
}

void Walk::fold(Stream& stream, const double* dx) const {
    Run& run = stream.run;
    double* signature = stream.row + layout_.signature;
    if (run.signature != signature || run.count == longest_run) fold_run(run);
    run.signature = signature;
    // A piece begins with time, whether that is a channel of the path or not.
    const double* piece = layout_.time ? dx : dx + 1;
    std::memcpy(run.pieces.data() + run.count * layout_.path(), piece, layout_.path() * sizeof(double));
    ++run.count;
    if (!policy_->by_count) stream.row[filled] += 1;
}

void Walk::fold_run(Run& run) const {
    if (run.count) kernel_.fold(layout_.path(), layout_.depth, run.signature, run.pieces.data(), run.count);
    run.count = 0;
}

bool Walk::has_sample(const double* row) const {
    if (policy_->by_count) return true;
    const double tolerance = policy_->edge_tolerance(row[t0], row[start]);
    return row[last] > row[start] + (partition_.hold ? -tolerance : tolerance);
}

void Walk::close_window(Stream& stream, double end, const double* values, bool sampled) const {
    double* row = stream.row;
    double* signature = row + layout_.signature;
    Outcome& outcome = stream.outcome;
    const auto number = static_cast<std::int64_t>(row[window]);
    outcome.windows.push_back({stream.slot, number, static_cast<std::int64_t>(row[episode]),
                               number - static_cast<std::int64_t>(row[episode_window]), row[start], end, stream.cause,
                               sampled});
    outcome.values.insert(outcome.values.end(), values, values + layout_.channels);
    outcome.logsigs.resize(outcome.logsigs.size() + token_size_);
    fold_run(stream.run);
    double* token = outcome.logsigs.data() + outcome.logsigs.size() - token_size_;
    const double* at_end = values;
    if (tokens_.ends && layout_.elapsed && values == row + layout_.x) {
        // The row keeps the times of the last observations.
        const int plain = layout_.values() - layout_.channels;
        double* converted = stream.work + scratch_size() - layout_.values();
        std::memcpy(converted, values, plain * sizeof(double));
        for (int i = plain; i < layout_.values(); ++i) converted[i] = row[cursor] - values[i];
        at_end = converted;
    }
    tokens_.make(row, number - static_cast<std::int64_t>(row[segment_window]), signature, end, at_end, token);
    std::memset(signature, 0, signature_size_ * sizeof(double));
    row[window] += 1;
    row[filled] = row[window_samples] = 0;
    row[start] = end;
}

}  // namespace streamrde
