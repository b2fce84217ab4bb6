#include <nanobind/stl/array.h>

#include <array>
#include <stdexcept>
#include <string>

#include "bindings/bind.h"
#include "kernels/table.h"
#include "runtime/denormal.h"
#include "runtime/memory.h"

namespace nb = nanobind;

namespace fovea {
namespace {

using Triple = std::array<int, 3>;

ConvShape make_shape(int groups, int cin, int cout, Triple in, Triple out, Triple kernel, Triple stride,
                     Triple dilation, Triple pad_lo) {
    ConvShape s{};
    s.groups = groups;
    s.cin = cin;
    s.cout = cout;
    bool valid = groups > 0 && cin > 0 && cout > 0 && cin % groups == 0 && cout % groups == 0;
    for (int i = 0; i < 3; i++) {
        s.in[i] = in[i];
        s.out[i] = out[i];
        s.kernel[i] = kernel[i];
        s.stride[i] = stride[i];
        s.dilation[i] = dilation[i];
        s.pad_lo[i] = pad_lo[i];
        valid = valid && in[i] > 0 && out[i] > 0 && kernel[i] > 0 && stride[i] > 0 && dilation[i] > 0;
    }
    if (!valid) throw std::invalid_argument("sizes must be positive and channels divisible by groups");
    return s;
}

void require(bool good, const char* what) {
    if (!good) throw std::invalid_argument(std::string("array sizes do not fit the plan: ") + what);
}

// A plan with its buffers, for tests and benchmarks; the program executor plans its own memory.
class ConvRunner {
  public:
    ConvRunner(const ConvShape& shape, ConvPass pass, int batch, bool naive, int winograd)
        : plan_(naive           ? kernels().conv.plan_naive(pass, shape, batch)
                : winograd >= 0 ? kernels().conv.plan_winograd(pass, shape, batch, winograd)
                                : kernels().conv.plan(pass, shape, batch)),
          packed_(plan_.packed_floats),
          scratch_(plan_.scratch_floats + guard) {
        for (size_t i = 0; i < guard; i++) scratch_.data()[plan_.scratch_floats + i] = 7;
    }

    void pack(const Array& weight) {
        require(static_cast<long>(weight.size()) == plan_.shape.weight_floats(), "weight");
        weight_ = weight.data();
        if (plan_.packed_floats) {
            kernels().conv.pack(plan_, weight.data(), packed_.data());
            weight_ = packed_.data();
        }
    }

    void run(int n, const Array& from, const OutArray& to, const Array& bias, bool clamp, float low, float high) {
        const bool forward = plan_.pass == ConvPass::forward;
        const long x = n * plan_.shape.in_pixels() * plan_.shape.cin,
                   y = n * plan_.shape.out_pixels() * plan_.shape.cout;
        require(n >= 1 && n <= plan_.batch && plan_.pass != ConvPass::backward_weight, "n or pass");
        require(static_cast<long>(from.size()) == (forward ? x : y), "from");
        require(static_cast<long>(to.size()) == (forward ? y : x), "to");
        require(weight_ != nullptr, "pack the weights first");
        const FlushDenormals flush;
        const Epilogue epilogue{bias.is_valid() ? bias.data() : nullptr, clamp, low, high};
        kernels().conv.run(plan_, n, from.data(), weight_, to.data(), scratch_.data(), epilogue);
    }

    void backward_weight(int n, const Array& input, const Array& grad_output, const OutArray& grad_weight,
                         const OutArray& grad_bias) {
        require(n >= 1 && n <= plan_.batch && plan_.pass == ConvPass::backward_weight, "n or pass");
        require(static_cast<long>(input.size()) == n * plan_.shape.in_pixels() * plan_.shape.cin, "input");
        require(static_cast<long>(grad_output.size()) == n * plan_.shape.out_pixels() * plan_.shape.cout,
                "grad_output");
        require(static_cast<long>(grad_weight.size()) == plan_.shape.weight_floats(), "grad_weight");
        const FlushDenormals flush;
        kernels().conv.run_backward_weight(plan_, n, input.data(), grad_output.data(), grad_weight.data(),
                                           grad_bias.is_valid() ? grad_bias.data() : nullptr, scratch_.data());
    }

    // Whether the kernels kept to the scratch that their plan asked for.
    bool scratch_intact() const {
        bool intact = true;
        for (size_t i = 0; i < guard; i++) intact = intact && scratch_.data()[plan_.scratch_floats + i] == 7;
        return intact;
    }

    int algorithm() const { return static_cast<int>(plan_.algorithm); }

  private:
#if defined(__SANITIZE_ADDRESS__)
    static constexpr size_t guard = 0;  // the sanitizer sees the end of the buffer itself
#else
    static constexpr size_t guard = 1 << 14;
#endif
    ConvPlan plan_;
    Buffer packed_, scratch_;
    const float* weight_ = nullptr;
};

}  // namespace

void bind_conv(nb::module_& m) {
    nb::class_<ConvShape>(m, "ConvShape", "Resolved geometry of a convolution over three spatial axes.")
        .def(
            "__init__",
            [](ConvShape* self, int groups, int cin, int cout, Triple in, Triple out, Triple kernel, Triple stride,
               Triple dilation, Triple pad_lo) {
                new (self) ConvShape(make_shape(groups, cin, cout, in, out, kernel, stride, dilation, pad_lo));
            },
            nb::kw_only(), nb::arg("groups"), nb::arg("cin"), nb::arg("cout"), nb::arg("in_size"), nb::arg("out_size"),
            nb::arg("kernel"), nb::arg("stride"), nb::arg("dilation"), nb::arg("pad_lo"));
    nb::enum_<ConvPass>(m, "ConvPass", "The three passes of a convolution.")
        .value("forward", ConvPass::forward)
        .value("backward_data", ConvPass::backward_data)
        .value("backward_weight", ConvPass::backward_weight);
    nb::class_<ConvRunner>(m, "ConvRunner", "One pass of one convolution with buffers of its own (tests, benchmarks).")
        .def(nb::init<const ConvShape&, ConvPass, int, bool, int>(), nb::arg("shape"), nb::arg("pass_"),
             nb::arg("batch"), nb::arg("naive") = false, nb::arg("winograd") = -1)
        .def("pack", &ConvRunner::pack, nb::arg("weight").noconvert(), nb::keep_alive<1, 2>(), ReleaseLock())
        .def("run", &ConvRunner::run, nb::arg("n"), nb::arg("input").noconvert(), nb::arg("output").noconvert(),
             nb::arg("bias").noconvert().none() = nb::none(), nb::arg("clamp") = false, nb::arg("low") = 0.0f,
             nb::arg("high") = 0.0f, ReleaseLock())
        .def("backward_weight", &ConvRunner::backward_weight, nb::arg("n"), nb::arg("input").noconvert(),
             nb::arg("grad_output").noconvert(), nb::arg("grad_weight").noconvert(),
             nb::arg("grad_bias").noconvert().none() = nb::none(), ReleaseLock())
        .def_prop_ro("scratch_intact", &ConvRunner::scratch_intact)
        .def_prop_ro("algorithm", &ConvRunner::algorithm);
}

}  // namespace fovea
