#include "loop.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace streamrde {
namespace {

// A row's first columns; see inference/table.py.
enum Column { started, t0, last, cursor, window, filled, start, samples, late, duplicate, rejected };

// Everything about edges is as in windowing/cutting.py, to the bit.
double edge_tolerance(const Policy& policy, double origin, double t) {
    const double a = std::fabs(origin), b = std::fabs(t);
    return 1e-9 * (policy.every ? policy.seconds : 0.0) + 4 * std::numeric_limits<double>::epsilon() * (a > b ? a : b);
}

double anchor(const Policy& policy, double origin) {
    if (!policy.epoch) return 0.0;
    double into = std::fmod(origin, policy.seconds);
    if (into < 0) into += policy.seconds;
    const double tolerance = edge_tolerance(policy, origin, origin);
    return policy.seconds - into <= tolerance || into <= tolerance ? 0.0 : -into;
}

double edge_time(const Policy& policy, double origin, double k) {
    if (!policy.epoch) return origin + k * policy.seconds;
    return (std::nearbyint((origin + anchor(policy, origin)) / policy.seconds) + k) * policy.seconds;
}

}  // namespace

Loop::Loop(Layout layout, Policy policy, Kernel kernel, WordTable words)
    : layout_(layout), policy_(policy), kernel_(kernel), words_(std::move(words)), signature_size_(0) {
    std::ptrdiff_t power = 1;
    for (int k = 0; k < layout.depth; ++k) signature_size_ += (power *= layout.channels + 1);
}

Refusal Loop::judge(const double* row, double t, const double* x) const {
    Refusal refusal;
    const bool fresh = row[started] == 0;
    int column = std::isfinite(t) ? -1 : 0;
    for (int i = 0; column < 0 && i < layout_.channels; ++i)
        if (std::isinf(x[i]) || (std::isnan(x[i]) && !policy_.hold && !fresh)) column = i + 1;
    if (column >= 0) {
        refusal.fault = Fault::unusable;
        refusal.column = column;
        return refusal;
    }
    if (fresh) return refusal;
    const double reached = row[t0] + row[cursor];
    const double edge = reached - edge_tolerance(policy_, row[t0], reached);
    refusal.bound = row[last] > edge ? row[last] : edge;
    if (t == row[last]) refusal.fault = Fault::duplicate;
    else if (t < row[last] || t < edge) refusal.fault = Fault::late;
    return refusal;
}

Refusal Loop::check(double* rows, const std::int64_t* slots, const double* t, const double* x,
                    std::ptrdiff_t count) const {
    // Later rows are judged by earlier ones: move each stream on as far as judging needs, then put all back.
    struct Before {
        double* row;
        double started, t0, last, cursor;
    };
    std::vector<Before> moved;
    moved.reserve(count);
    Refusal refusal;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        double* row = rows + slots[i] * layout_.width;
        refusal = judge(row, t[i], x + i * layout_.channels);
        if (refusal.fault != Fault::none) {
            refusal.row = i;
            break;
        }
        moved.push_back({row, row[started], row[t0], row[last], row[cursor]});
        if (row[started] == 0) {
            row[started] = 1;
            row[t0] = t[i];
            row[cursor] = 0;
        }
        row[last] = t[i];
    }
    for (std::size_t i = moved.size(); i-- > 0;) {
        double* row = moved[i].row;
        row[started] = moved[i].started;
        row[t0] = moved[i].t0;
        row[last] = moved[i].last;
        row[cursor] = moved[i].cursor;
    }
    return refusal;
}

void Loop::push(double* rows, const std::int64_t* slots, const double* t, const double* x, std::ptrdiff_t count,
                Closed& closed) const {
    const int channels = layout_.channels;
    std::vector<double> work(3 * channels + 1);
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        double* row = rows + slots[i] * layout_.width;
        const double* sample = x + i * channels;
        switch (judge(row, t[i], sample).fault) {
            case Fault::unusable: row[rejected] += 1; continue;
            case Fault::late: row[late] += 1; continue;
            case Fault::duplicate: row[duplicate] += 1; continue;
            case Fault::none: break;
        }
        row[samples] += 1;
        if (row[started] == 0) begin(row, slots[i], t[i], sample, closed);
        else extend(row, slots[i], t[i], sample, closed, work.data());
    }
}

void Loop::begin(double* row, std::int64_t slot, double t, const double* x, Closed& closed) const {
    row[started] = 1;
    row[t0] = row[last] = row[start] = t;
    row[cursor] = row[window] = row[filled] = 0;
    double* held = row + layout_.x;  // the fill values
    for (int i = 0; i < layout_.channels; ++i)
        if (!std::isnan(x[i])) held[i] = x[i];
    closed.began.push_back(slot);
    closed.first.insert(closed.first.end(), held, held + layout_.channels);
}

void Loop::extend(double* row, std::int64_t slot, double t, const double* x, Closed& closed, double* work) const {
    const int channels = layout_.channels;
    double* held = row + layout_.x;
    double* signature = row + layout_.signature;
    double* dx = work;                   // one piece, time first
    double* left = dx + channels + 1;    // linear: the path's value where the piece begins
    double* next = left + channels;      // the sample, missing values held
    for (int i = 0; i < channels; ++i) next[i] = std::isnan(x[i]) ? held[i] : x[i];

    const double origin = row[t0], u_a = row[cursor];
    double u = t - origin, number = row[window], zero = 0.0;
    std::int64_t crossed = 0;
    bool on_edge = false;
    if (policy_.every) {
        zero = anchor(policy_, origin);
        const double where = (u - zero) / policy_.seconds, nearest = std::nearbyint(where);
        const double edge = zero + nearest * policy_.seconds;
        on_edge = std::fabs(u - edge) <= edge_tolerance(policy_, origin, t);
        number = on_edge ? nearest : std::floor(where);
        if (on_edge) u = edge;
        crossed = static_cast<std::int64_t>(number - row[window]);
    }
    const std::int64_t moves = crossed + 1 - (on_edge && crossed > 0);
    const double first_window = row[window];
    std::memcpy(left, held, channels * sizeof(double));
    for (std::int64_t j = 0; j < moves; ++j) {
        const double begin = j == 0 ? u_a : zero + (first_window + j) * policy_.seconds;
        const double end = j == moves - 1 ? u : zero + (first_window + j + 1) * policy_.seconds;
        dx[0] = end - begin;
        if (policy_.hold) {
            for (int i = 0; i < channels; ++i) dx[i + 1] = 0.0;
        } else if (j == moves - 1) {
            for (int i = 0; i < channels; ++i) dx[i + 1] = next[i] - left[i];
        } else {
            const double fraction = (end - u_a) / (u - u_a);
            for (int i = 0; i < channels; ++i) {
                const double right = held[i] + fraction * (next[i] - held[i]);
                dx[i + 1] = right - left[i];
                left[i] = right;
            }
        }
        kernel_.fold(channels + 1, layout_.depth, signature, dx, 1);
        if (policy_.every) {
            row[filled] += 1;
            if (j < crossed) close(row, slot, edge_time(policy_, origin, first_window + j + 1), closed);
        }
    }
    if (policy_.hold) {
        dx[0] = 0.0;
        for (int i = 0; i < channels; ++i) dx[i + 1] = next[i] - held[i];
        kernel_.fold(channels + 1, layout_.depth, signature, dx, 1);
        if (policy_.every) row[filled] += 1;
    }
    if (!policy_.every) {
        row[filled] += 1;
        if (row[filled] == static_cast<double>(policy_.n)) close(row, slot, t, closed);
    }
    row[last] = t;
    row[cursor] = u;
    std::memcpy(held, next, channels * sizeof(double));
}

void Loop::close(double* row, std::int64_t slot, double end, Closed& closed) const {
    double* signature = row + layout_.signature;
    closed.slot.push_back(slot);
    closed.window.push_back(static_cast<std::int64_t>(row[window]));
    closed.start.push_back(row[start]);
    closed.end.push_back(end);
    closed.logsigs.resize(closed.logsigs.size() + words_.size());
    kernel_.log(layout_.channels + 1, layout_.depth, signature, words_.words(), closed.logsigs.data() + closed.logsigs.size() - words_.size());
    std::memset(signature, 0, signature_size_ * sizeof(double));
    row[window] += 1;
    row[filled] = 0;
    row[start] = end;
}

}  // namespace streamrde
