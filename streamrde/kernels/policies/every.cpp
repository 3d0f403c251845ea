// Windows of equal duration: the twin of windowing/policies/every.py.
#include "policy.hpp"

namespace streamrde {
namespace {

class Every final : public Policy {
public:
    Every(double seconds, bool epoch) : Policy(seconds), epoch_(epoch) {}

    double edge(const OpenWindow& window) const override { return anchor(window.t0) + (window.number + 1) * length; }

    bool find_edges(OpenWindow window, double t, double& u, std::vector<double>& edges) const override {
        edges.clear();
        const double zero = anchor(window.t0), where = (u - zero) / length, nearest = std::nearbyint(where);
        const double near = zero + nearest * length;
        const bool on_edge = std::fabs(u - near) <= edge_tolerance(window.t0, t);
        const double reached = on_edge ? nearest : std::floor(where);
        if (on_edge) u = near;
        for (double k = window.number + 1; k <= reached; k += 1) edges.push_back(zero + k * length);
        return on_edge && !edges.empty();
    }

    double edge_time(const OpenWindow& window, double) const override {
        const double k = window.number + 1;
        if (!epoch_) return window.t0 + k * length;
        return (std::nearbyint((window.t0 + anchor(window.t0)) / length) + k) * length;
    }

    Quiet quiet(const OpenWindow& window) const override {
        const double zero = anchor(window.t0);
        return {zero + window.number * length, zero + (window.number + 1) * length, never};
    }

private:
    // Time of edge 0: the latest edge that is not after the first sample.
    double anchor(double t0) const {
        if (!epoch_) return 0.0;
        double into = std::fmod(t0, length);
        if (into < 0) into += length;
        const double tolerance = edge_tolerance(t0, t0);
        return length - into <= tolerance || into <= tolerance ? 0.0 : -into;
    }

    bool epoch_;
};

const bool known = register_policy("every", [](const double* numbers, std::size_t count) -> std::unique_ptr<Policy> {
    if (count != 2 || !(numbers[0] > 0)) return nullptr;
    return std::make_unique<Every>(numbers[0], numbers[1] != 0);
});

}  // namespace
}  // namespace streamrde
