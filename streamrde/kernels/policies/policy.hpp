// The contract of a window policy: the twin of windowing/policies/policy.py, and how one is found by its name.
//
// A file here holds one policy and registers it. Everything about edges is as in its Python twin, to the bit. Like the walk
// these files are compiled without contraction of a * b + c.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace streamrde {

// The open window of a stream. Times are in seconds since the first sample of its segment.
struct OpenWindow {
    double number;      // of the window, from 0, in the segment
    double t0;          // time of the segment's first sample, in the time of the samples
    double start, now;  // now: time up to which the path is built
    double samples;     // in the window, without the one at its very start
};

// Computes the open window's log-signature, words basis, when it is called. No std::function: one is made for every sample.
struct LogSignature {
    const double* (*compute)(const void* context);
    const void* context;

    const double* operator()() const { return compute(context); }
};

// A stretch of time since the segment's first sample with no edge inside, and the sample that closes the window.
struct Quiet {
    double low, high, samples;
};

class Policy {
public:
    static constexpr double never = std::numeric_limits<double>::infinity();

    // length: duration of a window that nothing closes earlier, in seconds; 0 if time alone closes none.
    // by_count: whether the number of samples alone closes windows.
    // features: size of the log-signature that `closes` reads; 0 if it reads none.
    explicit Policy(double length, bool by_count = false, std::size_t features = 0)
        : length(length), by_count(by_count), features(features) {}
    virtual ~Policy() = default;

    const double length;
    const bool by_count;
    const std::size_t features;

    // Time at which the window closes unless a sample has closed it before.
    virtual double edge(const OpenWindow&) const { return never; }
    // Whether the window closes at the sample that was added last.
    virtual bool closes(const OpenWindow&, const LogSignature&) const { return false; }
    // Finds the edges that close up to time t = t0 + u, and moves u to the edge that it lies on.
    // Returns whether the last of these edges is u itself.
    virtual bool find_edges(OpenWindow window, double t, double& u, std::vector<double>& edges) const;
    // Time of the edge that ends the window, in the time of the samples.
    virtual double edge_time(const OpenWindow& window, double at) const { return window.t0 + at; }
    // Where samples need none of the above; all of a low, a high and a number of samples only if `closes` depends on no more.
    virtual Quiet quiet(const OpenWindow&) const { return {0.0, 0.0, never}; }

    double edge_tolerance(double t0, double t) const {
        const double a = std::fabs(t0), b = std::fabs(t);
        return 1e-9 * length + 4 * std::numeric_limits<double>::epsilon() * (a > b ? a : b);
    }
};

// Makes a policy of the numbers that its Python twin gives; null if they do not fit.
using PolicyMaker = std::unique_ptr<Policy> (*)(const double* numbers, std::size_t count);

// Makes a policy known by its name, which is its tag in Python.
bool register_policy(const char* name, PolicyMaker make);
// Null if there is no such policy, or the numbers do not fit.
std::unique_ptr<Policy> make_policy(const std::string& name, const double* numbers, std::size_t count);

}  // namespace streamrde
