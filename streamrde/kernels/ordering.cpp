// From rows as they come to samples in order of time: the twin of windowing/ordering.py.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "ordering.hpp"

namespace streamrde {

Ordering::Ordering(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Order order, Kernel kernel,
                   WordTable words, Tokens tokens, std::vector<double> fills)
    : Settling(layout, partition, std::move(policy), kernel, std::move(words), std::move(tokens), std::move(fills)),
      order_(order) {}

double Ordering::reached_time(const double* row) const {
    const double never = -std::numeric_limits<double>::infinity();
    if (row[started] == 0 || row[ordered] == never) return never;
    const double reached = row[t0] + row[cursor];
    return reached - policy_->edge_tolerance(row[t0], reached);
}

Refusal Ordering::judge(double newest, double edge, double t, const double* x) const {
    Refusal refusal;
    if (!std::isfinite(t)) {
        refusal.fault = Fault::rejected;
        return refusal;
    }
    for (int i = 0; i < layout_.channels; ++i) {
        if (std::isinf(x[i])) {
            refusal.fault = Fault::rejected;
            refusal.column = i + 1;
            return refusal;
        }
    }
    refusal.bound = newest > edge ? newest : edge;
    if (t == newest) refusal.fault = Fault::duplicate;
    else if (t < newest || t < edge) refusal.fault = Fault::late;
    return refusal;
}

Refusal Ordering::check(const double* rows, const std::int64_t* slots, const double* t, const double* x,
                        const std::ptrdiff_t* indices, std::ptrdiff_t count) const {
    // A row is judged by its stream's rows before it: of these only the latest time counts.
    Refusal earliest;
    std::int64_t slot = -1;
    double newest = 0.0, edge = 0.0;
    bool refused = false;
    for (std::ptrdiff_t k = 0; k < count; ++k) {
        const std::ptrdiff_t i = indices[k];
        if (slots[i] != slot) {
            slot = slots[i];
            const double* row = rows + slot * layout_.width;
            newest = row[ordered];
            edge = reached_time(row);
            refused = false;
        }
        if (refused) continue;  // the first of a stream is its earliest
        if (k + ahead < count) {
            __builtin_prefetch(t + indices[k + ahead]);
            __builtin_prefetch(x + indices[k + ahead] * layout_.channels);
        }
        double finite = 0.0;
        for (int c = 0; c < layout_.channels; ++c) finite += 0.0 * x[i * layout_.channels + c];
        if (t[i] > newest && t[i] >= edge && std::isfinite(t[i]) && finite == 0.0) {
            newest = t[i];
            continue;
        }
        Refusal refusal = judge(newest, edge, t[i], x + i * layout_.channels);
        if (refusal.fault == Fault::duplicate && order_.duplicates != Duplicates::error) continue;
        newest = t[i];
        refused = refusal.fault != Fault::none;
        if (refused && (earliest.fault == Fault::none || i < earliest.row)) {
            earliest = refusal;
            earliest.row = i;
        }
    }
    return earliest;
}

Refusal Ordering::add(Stream& stream, double t, const double* x) {
    const Refusal refusal = judge(stream.row[ordered], reached_time(stream.row), t, x);
    if (refusal.fault != Fault::none) return refusal;
    if (order_.holds() || stream.row[held] > stream.row[pending]) return insert(stream, t, x);
    stream.row[samples] += 1;
    if (t > stream.row[top]) stream.row[top] = t;
    settle(stream, t, x);
    return refusal;
}

Refusal Ordering::insert(Stream& stream, double t, const double* x) {
    Held& held = held_at(stream.slot);
    // The first that is later; most often there is none.
    std::ptrdiff_t place = held.waiting.size(), before = 0;
    if (place > 0 && held.waiting.at(place - 1)[0] > t) {
        while (before < place) {
            const std::ptrdiff_t middle = before + (place - before) / 2;
            if (held.waiting.at(middle)[0] > t) place = middle;
            else before = middle + 1;
        }
    }
    if (place > 0 && held.waiting.at(place - 1)[0] == t) return repeat(stream.row, held.waiting.at(place - 1), x);
    double* entry = held.waiting.insert(place);
    entry[0] = t;
    std::memcpy(entry + 1, x, layout_.channels * sizeof(double));
    stream.row[samples] += 1;
    if (t > stream.row[top]) stream.row[top] = t;
    release(stream, held, stream.row[top]);
    return {};
}

Refusal Ordering::repeat(double* row, double* entry, const double* x) const {
    Refusal refusal;
    refusal.bound = entry[0];
    double* data = entry + 1;
    bool conflict = !order_.merge;
    for (int i = 0; i < layout_.channels && !conflict; ++i) conflict = !std::isnan(x[i]) && !std::isnan(data[i]);
    if (conflict && order_.duplicates == Duplicates::error) {
        refusal.fault = Fault::duplicate;
        return refusal;
    }
    const bool replace = order_.duplicates == Duplicates::last;
    for (int i = 0; i < layout_.channels; ++i) {
        if (order_.merge ? !std::isnan(x[i]) && (replace || std::isnan(data[i])) : replace) data[i] = x[i];
    }
    if (conflict) refusal.fault = Fault::duplicate;
    else row[merged] += 1;
    return refusal;
}

void Ordering::release(Stream& stream, Held& held, double now) {
    double* row = stream.row;
    const double watermark = (row[top] > now ? row[top] : now) - order_.lateness;
    while (held.waiting.size() > 0) {
        bool ready;
        if (order_.lateness_samples > 0) {
            ready = held.waiting.size() > order_.lateness_samples;
        } else {
            const double t = held.waiting.at(0)[0];
            ready = t < watermark || (t == watermark && !order_.strict());
        }
        if (!ready && held.waiting.size() <= order_.max_held) break;
        pop(stream, held);
    }
    count(row, held);
}

void Ordering::pop(Stream& stream, Held& held) {
    // The sample stays where it is until it is settled, which does not touch what waits.
    const double* entry = held.waiting.at(0);
    settle(stream, entry[0], entry + 1);
    held.waiting.pop();
}

bool Ordering::holds(const double* rows, const std::int64_t* slots, std::ptrdiff_t count) const {
    if (order_.holds()) return true;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const double* row = rows + slots[i] * layout_.width;
        if (row[held] > row[pending]) return true;
    }
    return false;
}

}  // namespace streamrde
