// From rows as they come to samples in their turn: the twin of windowing/ordering.py and settling.py.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "loop.hpp"

namespace streamrde {

double* Queue::insert(std::ptrdiff_t i) {
    if (front_ >= width_ && 2 * i < size()) {
        // Nearer to the front: the room that earlier samples left is used.
        front_ -= width_;
        std::memmove(at(0), at(1), i * width_ * sizeof(double));
        std::fill(at(i), at(i) + width_, 0.0);
        return at(i);
    }
    if (front_ > 0 && 2 * front_ >= static_cast<std::ptrdiff_t>(data_.size())) {
        data_.erase(data_.begin(), data_.begin() + front_);
        front_ = 0;
    }
    data_.insert(data_.begin() + front_ + i * width_, width_, 0.0);
    return at(i);
}

void Queue::pop() {
    front_ += width_;
    if (front_ == static_cast<std::ptrdiff_t>(data_.size())) {
        data_.clear();
        front_ = 0;
    }
}

void Loop::reserve(std::size_t slots) {
    if (held_.size() < slots) held_.resize(slots);
}

Held& Loop::held_at(std::int64_t slot) {
    std::unique_ptr<Held>& held = held_[slot];
    if (!held) held.reset(new Held{Queue(layout_.entry()), Queue(layout_.entry())});
    return *held;
}

const Held* Loop::held_of(std::size_t slot) const { return slot < held_.size() ? held_[slot].get() : nullptr; }

void Loop::hold(std::size_t slot, const double* entries, std::ptrdiff_t count, std::ptrdiff_t ripe) {
    if (count == 0 && slot >= held_.size()) return;
    reserve(slot + 1);
    held_[slot].reset();
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        Held& held = held_at(slot);
        Queue& queue = i < ripe ? held.pending : held.waiting;
        std::memcpy(queue.insert(queue.size()), entries + i * layout_.entry(), layout_.entry() * sizeof(double));
    }
}

std::vector<Loop::Saved> Loop::save(const double* rows, const std::int64_t* slots, std::ptrdiff_t count) const {
    std::vector<std::int64_t> touched(slots, slots + count);
    std::sort(touched.begin(), touched.end());
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    std::vector<Saved> saved;
    saved.reserve(touched.size());
    for (std::int64_t slot : touched) {
        const double* row = rows + slot * layout_.width;
        const Held* held = held_of(slot);
        saved.push_back({slot, {row, row + layout_.width}, held ? std::make_unique<Held>(*held) : nullptr});
    }
    return saved;
}

void Loop::put_back(double* rows, std::vector<Saved>& saved) {
    for (Saved& each : saved) {
        std::copy(each.row.begin(), each.row.end(), rows + each.slot * layout_.width);
        held_[each.slot] = std::move(each.held);
    }
}

bool Loop::holds(const double* rows, const std::int64_t* slots, std::ptrdiff_t count) const {
    if (order_.holds()) return true;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const double* row = rows + slots[i] * layout_.width;
        if (row[held] > row[ripe]) return true;
    }
    return false;
}

double Loop::reached_edge(const double* row) const {
    const double never = -std::numeric_limits<double>::infinity();
    if (row[started] == 0 || row[ordered] == never) return never;
    const double reached = row[t0] + row[cursor];
    return reached - policy_->edge_tolerance(row[t0], reached);
}

Refusal Loop::judge(double newest, double edge, double t, const double* x) const {
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

Refusal Loop::check(const double* rows, const std::int64_t* slots, const double* t, const double* x,
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
            edge = reached_edge(row);
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

Refusal Loop::take(Stream& stream, double t, const double* x) {
    const Refusal refusal = judge(stream.row[ordered], reached_edge(stream.row), t, x);
    if (refusal.fault != Fault::none) return refusal;
    if (order_.holds() || stream.row[held] > stream.row[ripe]) return insert(stream, t, x);
    stream.row[samples] += 1;
    if (t > stream.row[top]) stream.row[top] = t;
    settle(stream, t, x);
    return refusal;
}

Refusal Loop::insert(Stream& stream, double t, const double* x) {
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

Refusal Loop::repeat(double* row, double* entry, const double* x) const {
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

void Loop::release(Stream& stream, Held& held, double time) {
    double* row = stream.row;
    const double watermark = (row[top] > time ? row[top] : time) - order_.lateness;
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

void Loop::end_intake(Stream& stream, Held& held) {
    while (held.waiting.size() > 0) pop(stream, held);
    complete(stream, held, true);
}

void Loop::restart(Stream& stream) {
    double* row = stream.row;
    if (held_[stream.slot]) {
        const std::int64_t own = stream.budget.own;
        stream.budget.own = unbounded;  // what it owes belongs to the segment that ends
        end_intake(stream, *held_[stream.slot]);
        stream.budget.own = own;
    }
    if (row[started] != 0 && row[paused] == 0) end(stream);
    row[paused] = 1;
    row[ordered] = row[top] = -std::numeric_limits<double>::infinity();
}

void Loop::pop(Stream& stream, Held& held) {
    // The sample stays where it is until it is settled, which does not touch what waits.
    const double* entry = held.waiting.at(0);
    settle(stream, entry[0], entry + 1);
    held.waiting.pop();
}

void Loop::settle(Stream& stream, double t, const double* x) {
    double* row = stream.row;
    const int channels = layout_.channels;
    const bool opens = row[started] == 0 && row[ordered] == -std::numeric_limits<double>::infinity();
    const bool breaks = !opens && this->breaks(row, row[ordered], t);
    Held* own = held_[stream.slot].get();
    if (breaks && own) complete(stream, *own, true);
    const bool behind = own && own->pending.size() > 0;
    row[ordered] = t;
    double* data = stream.work;
    double* observed = data + channels;
    double* seen = row + layout_.seen;
    const double* before = behind ? own->pending.at(own->pending.size() - 1) + 1 : row + layout_.x;
    const bool flags = layout_.counts || layout_.elapsed, reset = breaks && !goes_on(row);
    bool open = false;
    for (int i = 0; i < channels; ++i) {
        const bool is_missing = std::isnan(x[i]);
        data[i] = x[i];
        if (flags) observed[i] = is_missing ? 0.0 : 1.0;
        if (reset) {
            seen[i] = 0;
            if (is_missing) data[i] = fills_[i];
        } else if (is_missing) {
            if (opens || breaks || partition_.hold || seen[i] == 0) data[i] = before[i];
            else open = true;
        }
        if (!partition_.hold && !is_missing) seen[i] = 1;
    }
    if (open || behind) {
        append(stream, t, data);
        Held& held = held_at(stream.slot);
        if (!partition_.hold && !breaks)
            for (int i = 0; i < channels; ++i)
                if (!std::isnan(x[i])) fill_back(row, held.pending, i);
        complete(stream, held, false);
        return;
    }
    if (walk(stream, t, data, observed)) return;
    append(stream, t, data);
    count(row, held_at(stream.slot));
    stream.outcome.owing.push_back(stream.slot);
}

void Loop::append(Stream& stream, double t, const double* data) {
    Queue& pending = held_at(stream.slot).pending;
    double* entry = pending.insert(pending.size());
    entry[0] = t;
    std::memcpy(entry + 1, data, (layout_.entry() - 1) * sizeof(double));
}

void Loop::fill_back(const double* row, Queue& pending, int channel) const {
    const int column = 1 + channel;
    const std::ptrdiff_t newest = pending.size() - 1;
    std::ptrdiff_t place = newest;
    while (place > 0 && std::isnan(pending.at(place - 1)[column])) --place;
    if (place == newest) return;
    double t_a, v_a;
    if (place > 0) {
        t_a = pending.at(place - 1)[0];
        v_a = pending.at(place - 1)[column];
    } else {
        t_a = row[last];
        v_a = row[layout_.x + channel];
    }
    const double t_b = pending.at(newest)[0], v_b = pending.at(newest)[column];
    for (std::ptrdiff_t i = place; i < newest; ++i) {
        double* entry = pending.at(i);
        entry[column] = v_a + (entry[0] - t_a) / (t_b - t_a) * (v_b - v_a);
    }
}

// Finds the values of samples that have waited for long enough: their channels have stood still.
void Loop::resolve(const double* row, Queue& pending, bool all_of_them) const {
    const int channels = layout_.channels;
    for (std::ptrdiff_t k = 0; k < pending.size(); ++k) {
        double* entry = pending.at(k);
        bool unknown = false;
        for (int i = 1; i <= channels; ++i) unknown = unknown || std::isnan(entry[i]);
        if (!unknown) continue;
        const double waited = row[ordered] - entry[0];
        if (!all_of_them && pending.size() - k <= partition_.wait_samples && !(waited > partition_.wait_seconds))
            return;
        const double* before = k > 0 ? pending.at(k - 1) + 1 : row + layout_.x;
        for (int i = 0; i < channels; ++i)
            if (std::isnan(entry[1 + i])) entry[1 + i] = before[i];
    }
}

void Loop::complete(Stream& stream, Held& held, bool all_of_them) {
    const int channels = layout_.channels;
    Queue& pending = held.pending;
    if (!partition_.hold) resolve(stream.row, pending, all_of_them);
    while (pending.size() > 0) {
        const double* entry = pending.at(0);
        bool unknown = false;
        for (int i = 1; i <= channels; ++i) unknown = unknown || std::isnan(entry[i]);
        if (unknown) break;
        if (!walk(stream, entry[0], entry + 1, entry + 1 + channels)) {
            stream.outcome.owing.push_back(stream.slot);
            break;
        }
        pending.pop();
    }
    count(stream.row, held);
}

void Loop::count(double* row, const Held& samples_held) {
    row[ripe] = static_cast<double>(samples_held.pending.size());
    row[held] = static_cast<double>(samples_held.pending.size() + samples_held.waiting.size());
}

}  // namespace streamrde
