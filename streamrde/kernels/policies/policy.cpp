#include "policy.hpp"

#include <map>

namespace streamrde {
namespace {

std::map<std::string, PolicyMaker>& makers() {
    static std::map<std::string, PolicyMaker> all;
    return all;
}

}  // namespace

bool register_policy(const char* name, PolicyMaker make) { return makers().emplace(name, make).second; }

std::unique_ptr<Policy> make_policy(const std::string& name, const double* numbers, std::size_t count) {
    const auto found = makers().find(name);
    return found == makers().end() ? nullptr : found->second(numbers, count);
}

bool Policy::find_edges(OpenWindow window, double t, double& u, std::vector<double>& edges) const {
    edges.clear();
    double at = edge(window);
    if (at == never) return false;
    const double tolerance = edge_tolerance(window.t0, t);
    for (; at - u <= tolerance; at = edge(window)) {
        edges.push_back(at);
        if (std::fabs(u - at) <= tolerance) {
            u = at;
            return true;
        }
        window.start = (window.t0 + at) - window.t0;  // as it is where the window is the open one
        window.now = at;
        window.number += 1;
        window.samples = 0;
    }
    if (at < never && std::fabs(u - window.start) <= tolerance) u = window.start;
    return false;
}

}  // namespace streamrde
