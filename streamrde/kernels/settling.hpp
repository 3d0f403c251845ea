// From samples in order to complete ones: the twin of windowing/settling.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "walk.hpp"

namespace streamrde {

// Samples in order of time, `width` numbers each.
class Queue {
public:
    explicit Queue(std::ptrdiff_t width) : width_(width) {}
    std::ptrdiff_t size() const { return (static_cast<std::ptrdiff_t>(data_.size()) - front_) / width_; }
    double* at(std::ptrdiff_t i) { return data_.data() + front_ + i * width_; }
    const double* at(std::ptrdiff_t i) const { return data_.data() + front_ + i * width_; }
    // Room for a sample before place i, filled with zeros.
    double* insert(std::ptrdiff_t i);
    void pop();

private:
    std::ptrdiff_t width_, front_ = 0;
    std::vector<double> data_;
};

struct Held {
    Queue pending;  // in turn, waiting for a channel's next observation
    Queue waiting;  // not yet in turn
};

class Settling : public Walk {
public:
    Settling(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Kernel kernel, WordTable words,
             Tokens tokens, std::vector<double> fills);

    // Makes room for the held samples of so many slots; before anything else is called on them.
    void reserve(std::size_t slots);
    // The samples that a stream holds, for snapshots.
    const Held* held_of(std::size_t slot) const;
    void hold(std::size_t slot, const double* entries, std::ptrdiff_t count, std::ptrdiff_t pending);

protected:
    void settle(Stream& stream, double t, const double* x);
    void fill_back(const double* row, Queue& pending, int channel) const;
    void complete(Stream& stream, Held& held, bool all_of_them);
    void resolve(const double* row, Queue& pending, bool all_of_them) const;
    void append(Stream& stream, double t, const double* data);
    static void count(double* row, const Held& held);
    Held& held_at(std::int64_t slot);

    std::vector<std::unique_ptr<Held>> held_;

private:
    std::vector<double> fills_;
};

}  // namespace streamrde
