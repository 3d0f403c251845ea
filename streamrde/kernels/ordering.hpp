// From rows as they come to samples in order of time: the twin of windowing/ordering.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "settling.hpp"

namespace streamrde {

// Rows in order of stream lie apart in memory: they are fetched so many rows before their turn.
constexpr std::ptrdiff_t ahead = 8;

STREAMRDE_ENUM(enum class Duplicates : int, duplicates, error, first, last);

struct Order {
    double lateness;
    std::int64_t lateness_samples, max_held;
    Duplicates duplicates;
    bool merge;
    std::int64_t restart_after;  // late rows in a row with which a stream's time begins again; 0: never

    bool strict() const { return merge || duplicates == Duplicates::last; }
    bool holds() const { return lateness > 0 || lateness_samples > 0 || strict(); }
};

STREAMRDE_ENUM(enum class Fault : int, fault, none, rejected, late, duplicate, restarted);

struct Refusal {
    Fault fault = Fault::none;
    std::ptrdiff_t row = 0;
    int column = 0;      // rejected: 0 is the time, then the channels
    double bound = 0.0;  // late, duplicate: the time that the row had to be after
};

class Ordering : public Settling {
public:
    Ordering(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Order order, Kernel kernel,
             WordTable words, Tokens tokens, std::vector<double> fills);

    // Returns the refusal of `Loop::push` without adding anything. No sample may be held (see `holds`), and indices are in
    // order of stream.
    Refusal check(const double* rows, const std::int64_t* slots, const double* t, const double* x,
                  const std::ptrdiff_t* indices, std::ptrdiff_t count) const;
    bool holds(const double* rows, const std::int64_t* slots, std::ptrdiff_t count) const;

protected:
    // The time, less what rounding may take, up to which a stream's path is built.
    double reached_time(const double* row) const;
    Refusal judge(double newest, double edge, double t, const double* x) const;
    Refusal add(Stream& stream, double t, const double* x);
    Refusal insert(Stream& stream, double t, const double* x);
    Refusal repeat(double* row, double* entry, const double* x) const;
    void release(Stream& stream, Held& held, double now);
    void pop(Stream& stream, Held& held);

    Order order_;
};

}  // namespace streamrde
