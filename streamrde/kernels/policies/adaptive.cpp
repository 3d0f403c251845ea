// Windows that are short where much happens: the twin of windowing/policies/adaptive.py.
#include "policy.hpp"

namespace streamrde {
namespace {

class Adaptive final : public Policy {
public:
    Adaptive(double longest, double shortest, std::vector<double> limits)
        : Policy(longest, false, limits.size()), shortest_(shortest), limits_(std::move(limits)) {}

    double edge(const OpenWindow& window) const override { return length > 0 ? window.start + length : never; }

    bool closes(const OpenWindow& window, const LogSignature& log_signature) const override {
        if (window.now - window.start < shortest_) return false;
        const double* coefficients = log_signature();
        for (std::size_t i = 0; i < limits_.size(); ++i)
            if (std::fabs(coefficients[i]) > limits_[i]) return true;
        return false;
    }

private:
    double shortest_;
    std::vector<double> limits_;
};

const bool known = register_policy("adaptive", [](const double* numbers, std::size_t count) -> std::unique_ptr<Policy> {
    if (count < 3) return nullptr;
    return std::make_unique<Adaptive>(numbers[0], numbers[1], std::vector<double>(numbers + 2, numbers + count));
});

}  // namespace
}  // namespace streamrde
