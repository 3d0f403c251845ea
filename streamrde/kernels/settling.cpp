// From samples in order to complete ones: the twin of windowing/settling.py.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "settling.hpp"

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

Settling::Settling(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Kernel kernel, WordTable words,
                   Tokens tokens, std::vector<double> fills)
    : Walk(layout, partition, std::move(policy), kernel, std::move(words), std::move(tokens)),
      fills_(std::move(fills)) {}

void Settling::reserve(std::size_t slots) {
    if (held_.size() < slots) held_.resize(slots);
}

Held& Settling::held_at(std::int64_t slot) {
    std::unique_ptr<Held>& held = held_[slot];
    if (!held) held.reset(new Held{Queue(layout_.entry()), Queue(layout_.entry())});
    return *held;
}

const Held* Settling::held_of(std::size_t slot) const { return slot < held_.size() ? held_[slot].get() : nullptr; }

void Settling::hold(std::size_t slot, const double* entries, std::ptrdiff_t count, std::ptrdiff_t pending) {
    if (count == 0 && slot >= held_.size()) return;
    reserve(slot + 1);
    held_[slot].reset();
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        Held& held = held_at(slot);
        Queue& queue = i < pending ? held.pending : held.waiting;
        std::memcpy(queue.insert(queue.size()), entries + i * layout_.entry(), layout_.entry() * sizeof(double));
    }
}

void Settling::settle(Stream& stream, double t, const double* x) {
    double* row = stream.row;
    const int channels = layout_.channels;
    const bool opens = row[started] == 0 && row[ordered] == -std::numeric_limits<double>::infinity();
    const bool breaks = !opens && this->starts_segment(row, row[ordered], t);
    Held* own = held_[stream.slot].get();
    if (breaks && own) complete(stream, *own, true);
    const bool behind = own && own->pending.size() > 0;
    row[ordered] = t;
    double* data = stream.work;
    double* observed = data + channels;
    double* seen = row + layout_.seen;
    const double* before = behind ? own->pending.at(own->pending.size() - 1) + 1 : row + layout_.x;
    const bool flags = layout_.flags(), reset = breaks && !keeps_episode(row);
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
    if (add_sample(stream, t, data, observed)) return;
    append(stream, t, data);
    count(row, held_at(stream.slot));
    stream.outcome.owing.push_back(stream.slot);
}

void Settling::append(Stream& stream, double t, const double* data) {
    Queue& pending = held_at(stream.slot).pending;
    double* entry = pending.insert(pending.size());
    entry[0] = t;
    std::memcpy(entry + 1, data, (layout_.entry() - 1) * sizeof(double));
}

void Settling::fill_back(const double* row, Queue& pending, int channel) const {
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
void Settling::resolve(const double* row, Queue& pending, bool all_of_them) const {
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

void Settling::complete(Stream& stream, Held& held, bool all_of_them) {
    const int channels = layout_.channels;
    Queue& pending = held.pending;
    if (!partition_.hold) resolve(stream.row, pending, all_of_them);
    while (pending.size() > 0) {
        const double* entry = pending.at(0);
        bool unknown = false;
        for (int i = 1; i <= channels; ++i) unknown = unknown || std::isnan(entry[i]);
        if (unknown) break;
        if (!add_sample(stream, entry[0], entry + 1, entry + 1 + channels)) {
            stream.outcome.owing.push_back(stream.slot);
            break;
        }
        pending.pop();
    }
    count(stream.row, held);
}

void Settling::count(double* row, const Held& samples_held) {
    row[pending] = static_cast<double>(samples_held.pending.size());
    row[held] = static_cast<double>(samples_held.pending.size() + samples_held.waiting.size());
}

}  // namespace streamrde
