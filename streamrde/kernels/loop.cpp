// From complete samples in order to windows that close: the twin of windowing/walk.py, and what is called from outside.
#include "loop.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace streamrde {
Loop::Loop(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Order order, Kernel kernel,
           WordTable words, std::vector<double> fills)
    : layout_(layout),
      partition_(partition),
      policy_(std::move(policy)),
      order_(order),
      kernel_(kernel),
      words_(std::move(words)),
      fills_(std::move(fills)),
      signature_size_(0),
      counter_(policy_->by_count ? filled : taken),
      simple_(!order_.holds() && !layout.counts && !layout.elapsed && policy_->features == 0) {
    std::ptrdiff_t power = 1;
    for (int k = 0; k < layout.depth; ++k) signature_size_ += (power *= layout.path());
}

Loop::Scratch Loop::scratch() const {
    // settle: a sample and its flags; extend: a piece, values left, right, next; closes: a log-signature.
    const std::size_t work = 2 * layout_.channels + 1 + layout_.values() + 3 * layout_.values() + words_.size();
    return {std::vector<double>(work), {}, {std::vector<double>(longest_run * layout_.path())}};
}

Refusal Loop::push(double* rows, const std::int64_t* slots, const double* t, const double* x,
                   const std::ptrdiff_t* indices, std::ptrdiff_t count, bool drop, std::int64_t windows,
                   Outcome& outcome) {
    Scratch scratch = this->scratch();
    const std::int64_t own = windows == unbounded ? unbounded : windows_of_a_row;
    std::ptrdiff_t stop = 0;  // where the stream's rows end
    for (std::ptrdiff_t k = 0; k < count; ++k) {
        std::ptrdiff_t i = indices ? indices[k] : k;
        Stream stream{rows + slots[i] * layout_.width,
                      slots[i],
                      i,
                      outcome,
                      scratch.work.data(),
                      scratch.edges,
                      scratch.run,
                      {own, &windows}};
        if (indices) {
            if (k >= stop)
                for (stop = k + 1; stop < count && slots[indices[stop]] == stream.slot;) ++stop;
            k += push_plain(stream, t, x, indices + k, stop - k);
            if (k == stop) {
                --k;
                continue;
            }
            i = stream.cause = indices[k];
        }
        Refusal refusal = take(stream, t[i], x + i * layout_.channels);
        if (refusal.fault == Fault::none) {
            stream.row[refused] = 0;
            continue;
        }
        if (!drop && !(refusal.fault == Fault::duplicate && order_.duplicates != Duplicates::error)) {
            refusal.row = i;
            fold_run(scratch.run);
            return refusal;
        }
        const Column counter = refusal.fault == Fault::rejected ? rejected
                               : refusal.fault == Fault::late   ? late
                                                                : duplicate;
        stream.row[refused] += 1;
        if (order_.restart_after > 0 && refusal.fault == Fault::late &&
            stream.row[refused] >= static_cast<double>(order_.restart_after)) {
            restart(stream);
            take(stream, t[i], x + i * layout_.channels);
            stream.row[refused] = 0;
            refusal.fault = Fault::restarted;
        } else {
            stream.row[counter] += 1;
        }
        outcome.unused.push_back({i, static_cast<std::int64_t>(refusal.fault)});
    }
    fold_run(scratch.run);
    return {};
}

template <typename Work>
void Loop::share_out(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows,
                     std::int64_t share, Outcome& outcome, Work work) {
    Scratch scratch = this->scratch();
    std::int64_t none = 0;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const std::int64_t own = windows < share ? windows : share;
        Stream stream{rows + slots[i] * layout_.width,
                      slots[i],
                      i,
                      outcome,
                      scratch.work.data(),
                      scratch.edges,
                      scratch.run,
                      {own, &none}};
        if (own == 0 || !work(stream)) outcome.owing.push_back(slots[i]);
        if (windows != unbounded) windows -= own - stream.budget.own;
    }
    fold_run(scratch.run);
}

void Loop::advance(double* rows, const std::int64_t* slots, const double* t, std::ptrdiff_t count, std::int64_t windows,
                   std::int64_t share, Outcome& outcome) {
    share_out(rows, slots, count, windows, share, outcome, [&](Stream& stream) {
        const double* row = stream.row;
        const double time = t[stream.cause];
        if (row[top] == -std::numeric_limits<double>::infinity() || row[paused] != 0) return true;
        if (Held* own = held_[stream.slot].get()) {
            release(stream, *own, time);
            complete(stream, *own, false);
            if (partition_.hold && own->pending.size() > 0) return false;
        }
        return order_.lateness_samples > 0 || pass(stream, (row[top] > time ? row[top] : time) - order_.lateness);
    });
}

void Loop::flush(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows,
                 std::int64_t share, Outcome& outcome) {
    share_out(rows, slots, count, windows, share, outcome, [&](Stream& stream) {
        double* row = stream.row;
        if (Held* own = held_[stream.slot].get()) {
            end_intake(stream, *own);
            if (own->pending.size() > 0) return false;
        }
        if (row[started] != 0 && row[paused] == 0) {
            end(stream);
            row[paused] = 1;
        }
        return true;
    });
}

void Loop::go_on(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows,
                 std::int64_t share, Outcome& outcome) {
    share_out(rows, slots, count, windows, share, outcome, [&](Stream& stream) {
        if (Held* own = held_[stream.slot].get()) complete(stream, *own, false);  // which says that it owes
        return true;
    });
}

void Loop::pass_time(double* rows, const std::int64_t* slots, const double* t, std::ptrdiff_t count, Outcome& outcome) {
    share_out(rows, slots, count, unbounded, unbounded, outcome,
              [&](Stream& stream) { return pass(stream, t[stream.cause]); });
}

void Loop::close(double* rows, const std::int64_t* slots, std::ptrdiff_t count, Outcome& outcome) {
    share_out(rows, slots, count, unbounded, unbounded, outcome, [&](Stream& stream) {
        end(stream);
        return true;
    });
}

bool Loop::breaks(const double* row, double since, double t) const {
    return row[paused] != 0 || t - since > partition_.longest_gap;
}

bool Loop::goes_on(const double* row) const { return row[paused] != 0 ? partition_.resumes : partition_.carry; }

bool Loop::walk(Stream& stream, double t, const double* data, const double* observed) const {
    double* row = stream.row;
    if (row[started] == 0) {
        begin(stream, t, data, observed, true);
        return true;
    }
    if (!breaks(row, row[last], t)) return extend(stream, t, data, observed);
    if (partition_.holds != 0 && row[paused] == 0 && !pass(stream, row[last] + partition_.holds)) return false;
    end(stream);
    if (row[paused] == 0) {
        row[cuts] += 1;
        stream.outcome.cuts.push_back({stream.slot, t - row[last]});
    }
    begin(stream, t, data, observed, !goes_on(row));
    return true;
}

bool Loop::pass(Stream& stream, double t) const {
    double* row = stream.row;
    if (!partition_.hold || row[started] == 0 || row[paused] != 0) return true;
    if (t - row[last] > partition_.longest_gap) t = row[last] + partition_.holds;
    double u = t - row[t0];
    policy_->find_edges(open_window(row), t, u, stream.edges);
    double* dx = stream.work + 2 * layout_.channels;
    for (const double at : stream.edges) {
        if (!stream.budget.take()) return false;
        move(stream, at, dx);
        close_window(stream, policy_->edge_time(open_window(row), at), row + layout_.x, sampled(row));
    }
    return true;
}

void Loop::end(Stream& stream) const {
    if (stream.row[filled] != 0) close_window(stream, stream.row[last], stream.row + layout_.x, sampled(stream.row));
}

void Loop::begin(Stream& stream, double t, const double* data, const double* observed, bool anew) const {
    double* row = stream.row;
    const int channels = layout_.channels;
    double* x = row + layout_.x;
    std::memcpy(x, data, channels * sizeof(double));
    double* next = x + channels;
    if (layout_.counts) {
        for (int i = 0; i < channels; ++i) next[i] = anew ? observed[i] : next[i] + observed[i];
        next += channels;
    }
    if (layout_.elapsed)
        for (int i = 0; i < channels; ++i) next[i] = 0.0;
    row[started] = 1;
    row[paused] = 0;
    row[t0] = row[last] = row[start] = t;
    row[cursor] = row[filled] = row[taken] = 0;
    row[first] = row[window];
    if (!anew) return;
    row[begun] = row[window];
    row[begins] += 1;
    Outcome& outcome = stream.outcome;
    outcome.episodes.push_back({stream.slot, static_cast<std::int64_t>(row[begins]), stream.cause});
    outcome.origins.insert(outcome.origins.end(), x, x + layout_.values());
}

bool Loop::extend(Stream& stream, double t, const double* data, const double* observed) const {
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
            if (j < edges.size() && !stream.budget.take()) return false;
            move(stream, j < edges.size() ? edges[j] : u, dx);
            if (j < edges.size()) close_window(stream, policy_->edge_time(open_window(row), edges[j]), x, sampled(row));
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
            if (j < edges.size() && !stream.budget.take()) {
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
            if (j < edges.size())
                close_window(stream, policy_->edge_time(open_window(row), edges[j]), left,
                             (on_edge && j == moves - 1) || sampled(row));
        }
        row[walked] = 0;
    }
    row[last] = t;
    row[cursor] = u;
    std::memcpy(x, next, values * sizeof(double));
    if (partition_.hold || !on_edge) row[counter_] += 1;
    if (row[filled] != 0 && closes(stream, next + values)) close_window(stream, t, x, true);
    return true;
}

OpenWindow Loop::open_window(const double* row) const {
    return {row[window] - row[first], row[t0], row[start] - row[t0], row[cursor], row[counter_]};
}

bool Loop::closes(Stream& stream, double* log) const {
    const LogSignature log_signature = [&]() {
        fold_run(stream.run);
        kernel_.log(layout_.path(), layout_.depth, stream.row + layout_.signature, words_.words(), log);
        return log;
    };
    return policy_->closes(open_window(stream.row), log_signature);
}

void Loop::move(Stream& stream, double to, double* dx) const {
    double* row = stream.row;
    const int values = layout_.values(), plain = values - (layout_.elapsed ? layout_.channels : 0);
    dx[0] = to - row[cursor];
    for (int i = 0; i < plain; ++i) dx[1 + i] = 0.0;
    for (int i = plain; i < values; ++i) dx[1 + i] = dx[0];
    fold(stream, dx);
    row[cursor] = to;
}

void Loop::fold(Stream& stream, const double* dx) const {
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

void Loop::fold_run(Run& run) const {
    if (run.count) kernel_.fold(layout_.path(), layout_.depth, run.signature, run.pieces.data(), run.count);
    run.count = 0;
}

bool Loop::sampled(const double* row) const {
    if (policy_->by_count) return true;
    const double tolerance = policy_->edge_tolerance(row[t0], row[start]);
    return row[last] > row[start] + (partition_.hold ? -tolerance : tolerance);
}

void Loop::close_window(Stream& stream, double end, const double* values, bool sampled) const {
    double* row = stream.row;
    double* signature = row + layout_.signature;
    Outcome& outcome = stream.outcome;
    const auto number = static_cast<std::int64_t>(row[window]);
    outcome.windows.push_back({stream.slot, number, static_cast<std::int64_t>(row[begins]),
                               number - static_cast<std::int64_t>(row[begun]), row[start], end, stream.cause, sampled});
    outcome.values.insert(outcome.values.end(), values, values + layout_.channels);
    outcome.logsigs.resize(outcome.logsigs.size() + words_.size());
    fold_run(stream.run);
    double* logsig = outcome.logsigs.data() + outcome.logsigs.size() - words_.size();
    kernel_.log(layout_.path(), layout_.depth, signature, words_.words(), logsig);
    std::memset(signature, 0, signature_size_ * sizeof(double));
    row[window] += 1;
    row[filled] = row[taken] = 0;
    row[start] = end;
}

}  // namespace streamrde
