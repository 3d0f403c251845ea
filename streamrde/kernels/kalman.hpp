// Updates of linear readouts by labels.
#pragma once

#include <cstddef>

namespace streamrde {

// One output's readout and the inputs of its label.
struct LabelUpdate {
    double *theta, *cov;  // (features,), and rows of P's lower triangle, one after the other
    const double *phi, *prior;
    double residual, noise, keep;
};

// Learns from the label of one output. `room`: (3 * features,) to work in.
using LabelKernel = void (*)(const LabelUpdate& own, std::ptrdiff_t features, double clip, double most, double* room);

LabelKernel labels_baseline();
#ifdef STREAMRDE_X86
LabelKernel labels_avx2();
LabelKernel labels_avx512();
#endif

}  // namespace streamrde
