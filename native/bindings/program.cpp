#include "program/program.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <utility>

#include "bindings/bind.h"

namespace nb = nanobind;

namespace fovea {
namespace {

using AnyArray = nb::ndarray<nb::numpy, nb::ro, nb::c_contig, nb::device::cpu>;
using Pair = std::pair<int, int64_t>;
constexpr size_t most_sections = 8;  // that one run names

std::vector<Operand> operands_of(const std::vector<Pair>& pairs) {
    std::vector<Operand> operands;
    for (const auto& [base, offset] : pairs) operands.push_back({base, offset});
    return operands;
}

ConvPass pass_of(const std::string& name) {
    if (name == "forward") return ConvPass::forward;
    if (name == "backward_data") return ConvPass::backward_data;
    if (name == "backward_weight") return ConvPass::backward_weight;
    throw std::invalid_argument("expected a pass of convolution, got '" + name + "'");
}

Precision precision_of(const std::string& name) {
    if (name == "fp32") return Precision::fp32;
    if (name == "bf16") return Precision::bf16;
    throw std::invalid_argument("expected fp32 or bf16, got '" + name + "'");
}

// sizes: groups, cin, cout, then in, out, kernel, stride, dilation, pad_lo for three axes each.
ConvShape shape_of(const std::array<int, 21>& sizes) {
    ConvShape shape{};
    shape.groups = sizes[0];
    shape.cin = sizes[1];
    shape.cout = sizes[2];
    int (*const fields[])[3] = {&shape.in, &shape.out, &shape.kernel, &shape.stride, &shape.dilation, &shape.pad_lo};
    for (size_t field = 0; field < 6; field++)
        for (size_t axis = 0; axis < 3; axis++) (*fields[field])[axis] = sizes[3 + 3 * field + axis];
    if (shape.groups < 1 || shape.cin % shape.groups || shape.cout % shape.groups)
        throw std::invalid_argument("channels must be divisible by groups");
    return shape;
}

}  // namespace

void bind_program(nb::module_& m) {
    m.def(
        "bf16_kernels",
        [] {
            nb::dict result;
            const auto collect = [&](const OpList& list) {
                for (int i = 0; i < list.count; i++)
                    if (list.first[i].run_bf16) result[list.first[i].name] = list.first[i].stored;
            };
            for (const OpList& list : kernels().ops.lists) collect(list);
            for (const OpList& list : dot_kernels().stored) collect(list);
            return result;
        },
        "Kernels with a form for activations that are stored as bf16: name -> bit mask of the operands that are.");
    m.def(
        "address", [](const AnyArray& array) { return reinterpret_cast<int64_t>(array.data()); },
        nb::arg("array").noconvert(), "Address of a C-contiguous array's first element; the caller keeps the array.");
    nb::class_<Program>(m, "Program", "A lowered network: lists of instructions over one arena.")
        .def(nb::init<size_t, int, int, int>(), nb::arg("arena_bytes"), nb::arg("capacity"), nb::arg("bases"),
             nb::arg("sections"))
        .def(
            "add",
            [](Program& self, int section, const std::string& kernel, const std::vector<Pair>& operands,
               const std::vector<long>& ints, const std::vector<float>& reals, long fixed_n,
               const std::string& precision) {
                self.add(section, kernel, operands_of(operands), ints, reals, fixed_n, precision_of(precision));
            },
            nb::arg("section"), nb::arg("kernel"), nb::arg("operands"), nb::arg("ints"), nb::arg("reals"),
            nb::arg("fixed_n"), nb::arg("precision") = "fp32")
        .def(
            "add_conv",
            [](Program& self, int section, const std::string& pass, const std::array<int, 21>& sizes,
               const std::vector<Pair>& operands, bool clamp, float low, float high, const std::string& precision,
               bool float_output, bool keep_packed) {
                return self.add_conv(section, pass_of(pass), shape_of(sizes), operands_of(operands), clamp, low, high,
                                     precision_of(precision), float_output, keep_packed);
            },
            nb::arg("section"), nb::arg("pass_"), nb::arg("sizes"), nb::arg("operands"), nb::arg("clamp"),
            nb::arg("low"), nb::arg("high"), nb::arg("precision") = "fp32", nb::arg("float_output") = false,
            nb::arg("keep_packed") = true)
        .def("weights_changed", &Program::weights_changed)
        .def("clear", &Program::clear, nb::arg("section"))
        .def(
            "bind",
            [](Program& self, int base, const AnyArray& array) { self.bind(base, const_cast<void*>(array.data())); },
            nb::arg("base"), nb::arg("array").noconvert(), "The caller keeps the array as long as it is used.")
        .def(
            "run",
            [](Program& self, const nb::list& sections, long n) {
                int numbers[most_sections];
                const size_t count = nb::len(sections);
                if (count > most_sections) throw std::invalid_argument("sections");
                for (size_t i = 0; i < count; i++) numbers[i] = nb::cast<int>(sections[i]);
                const nb::gil_scoped_release release;
                self.run(numbers, static_cast<int>(count), n);
            },
            nb::arg("sections"), nb::arg("n"))
        .def("work", &Program::work, nb::arg("section"), nb::arg("per_sample"), nb::arg("once"))
        .def("time", &Program::time, nb::arg("on"))
        .def("times", &Program::times, nb::arg("section"))
        .def(
            "regions",
            [](const Program& self, int section) {
                std::vector<std::pair<long, long>> result;
                for (const Regions& one : self.regions(section)) result.push_back({one.count, one.pieces});
                return result;
            },
            nb::arg("section"), "For each instruction: how many parallel regions it opened, pieces of the longest.")
        .def("packed_bytes", &Program::packed_bytes, "Of the packed weights that are kept.")
        .def(
            "arena",
            [](Program& self) {
                return nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>(self.arena(), {self.arena_bytes()}, nb::find(self));
            },
            "The arena as bytes, sharing memory.");
}

}  // namespace fovea
