#include <stdexcept>
#include <string>

#include "bindings/bind.h"
#include "kernels/dot.h"
#include "runtime/denormal.h"
#include "runtime/memory.h"

namespace nb = nanobind;

namespace fovea {
namespace {

using Bf16Array = nb::ndarray<nb::numpy, const uint16_t, nb::c_contig, nb::device::cpu>;
using AnyOut = nb::ndarray<nb::numpy, nb::c_contig, nb::device::cpu>;  // float32 or uint16

void require(bool good, const char* what) {
    if (!good) throw std::invalid_argument(std::string("array sizes or types do not fit the plan: ") + what);
}

// A plan with its buffers, for tests and benchmarks. bf16 arrays are uint16 in NumPy, which has no such type.
class Bf16ConvRunner {
  public:
    Bf16ConvRunner(const ConvShape& shape, ConvPass pass, int batch, bool float_output, int winograd)
        : plan_(winograd >= 0 ? dot_kernels().bf16.plan_winograd(pass, shape, batch, float_output, winograd)
                              : dot_kernels().bf16.plan(pass, shape, batch, float_output)),
          packed_(plan_.packed_floats + guard),
          scratch_(plan_.scratch_floats + guard) {
        for (size_t i = 0; i < guard; i++)
            packed_.data()[plan_.packed_floats + i] = scratch_.data()[plan_.scratch_floats + i] = 7;
    }

    void pack(const Array& weight) {
        require(static_cast<long>(weight.size()) == plan_.shape.weight_floats(), "weight");
        weight_ = weight.data();
        if (plan_.packed_floats) {
            dot_kernels().bf16.pack(plan_, weight.data(), packed_.data());
            weight_ = packed_.data();
        }
    }

    void run(int n, const Bf16Array& from, const AnyOut& to, const Array& bias, bool clamp, float low, float high) {
        const bool forward = plan_.pass == ConvPass::forward;
        const long x = n * plan_.shape.in_pixels() * plan_.shape.cin,
                   y = n * plan_.shape.out_pixels() * plan_.shape.cout;
        require(n >= 1 && n <= plan_.batch && plan_.pass != ConvPass::backward_weight, "n or pass");
        require(static_cast<long>(from.size()) == (forward ? x : y), "from");
        require(static_cast<long>(to.size()) == (forward ? y : x), "to");
        require(to.dtype() == (plan_.float_output ? nb::dtype<float>() : nb::dtype<uint16_t>()), "type of to");
        require(weight_ != nullptr, "pack the weights first");
        const FlushDenormals flush;
        const Epilogue epilogue{bias.is_valid() ? bias.data() : nullptr, clamp, low, high};
        dot_kernels().bf16.run(plan_, n, from.data(), weight_, to.data(), scratch_.data(), epilogue);
    }

    void backward_weight(int n, const Bf16Array& input, const Bf16Array& grad_output, const OutArray& grad_weight,
                         const OutArray& grad_bias) {
        require(n >= 1 && n <= plan_.batch && plan_.pass == ConvPass::backward_weight, "n or pass");
        require(static_cast<long>(input.size()) == n * plan_.shape.in_pixels() * plan_.shape.cin, "input");
        require(static_cast<long>(grad_output.size()) == n * plan_.shape.out_pixels() * plan_.shape.cout,
                "grad_output");
        require(static_cast<long>(grad_weight.size()) == plan_.shape.weight_floats(), "grad_weight");
        const FlushDenormals flush;
        dot_kernels().bf16.run_backward_weight(plan_, n, input.data(), grad_output.data(), grad_weight.data(),
                                               grad_bias.is_valid() ? grad_bias.data() : nullptr, scratch_.data());
    }

    // Whether the kernels kept to what their plan asked for.
    bool buffers_intact() const {
        bool intact = true;
        for (size_t i = 0; i < guard; i++)
            intact = intact && packed_.data()[plan_.packed_floats + i] == 7 &&
                     scratch_.data()[plan_.scratch_floats + i] == 7;
        return intact;
    }

    int algorithm() const { return static_cast<int>(plan_.algorithm); }

  private:
#if defined(__SANITIZE_ADDRESS__)
    static constexpr size_t guard = 0;  // the sanitizer sees the end of the buffer itself
#else
    static constexpr size_t guard = 1 << 12;
#endif
    ConvPlan plan_;
    Buffer packed_, scratch_;
    const float* weight_ = nullptr;
};

}  // namespace

void bind_bf16(nb::module_& m) {
    nb::class_<Bf16ConvRunner>(m, "Bf16ConvRunner",
                               "One pass of one bf16 convolution with buffers of its own (tests, benchmarks).")
        .def(nb::init<const ConvShape&, ConvPass, int, bool, int>(), nb::arg("shape"), nb::arg("pass_"),
             nb::arg("batch"), nb::arg("float_output") = false, nb::arg("winograd") = -1)
        .def("pack", &Bf16ConvRunner::pack, nb::arg("weight").noconvert(), nb::keep_alive<1, 2>(), ReleaseLock())
        .def("run", &Bf16ConvRunner::run, nb::arg("n"), nb::arg("input").noconvert(), nb::arg("output").noconvert(),
             nb::arg("bias").noconvert().none() = nb::none(), nb::arg("clamp") = false, nb::arg("low") = 0.0f,
             nb::arg("high") = 0.0f, ReleaseLock())
        .def("backward_weight", &Bf16ConvRunner::backward_weight, nb::arg("n"), nb::arg("input").noconvert(),
             nb::arg("grad_output").noconvert(), nb::arg("grad_weight").noconvert(),
             nb::arg("grad_bias").noconvert().none() = nb::none(), ReleaseLock())
        .def_prop_ro("buffers_intact", &Bf16ConvRunner::buffers_intact)
        .def_prop_ro("algorithm", &Bf16ConvRunner::algorithm);
}

}  // namespace fovea
