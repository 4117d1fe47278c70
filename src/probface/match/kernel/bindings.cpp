// The kernel as a Python module. What the arrays hold is checked by match/exact.py and layout.py; here they are only taken apart.
#include "kernel.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;
using namespace probface;

template <class T, class... Shape>
using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu, Shape...>;
template <class T, class... Shape>
using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu, Shape...>;

static std::vector<const InstructionSet *> sets() {
    const InstructionSet *found[8];
    return {found, found + instruction_sets(found, 8)};
}

static const InstructionSet &set_named(const std::string &name) {
    for (const InstructionSet *set : sets())
        if (name == set->name) return *set;
    throw std::invalid_argument("no instruction set " + name + " on this processor");
}

static int64_t search_py(const std::string &set, In<float, nb::ndim<2>> vectors, In<int64_t, nb::ndim<1>> order,
                         In<float, nb::ndim<1>> sigma_sq, In<int64_t, nb::ndim<1>> bucket_first,
                         In<float, nb::ndim<1>> bucket_low,
                         In<float, nb::ndim<1>> bucket_high, In<float, nb::ndim<1>> tile_norm,
                         In<uint8_t, nb::ndim<4>> codes, In<float, nb::ndim<1>> tile_scale,
                         In<float, nb::ndim<1>> tile_residual, In<float, nb::ndim<2>> probes,
                         In<float, nb::ndim<1>> probe_sigma_sq, bool cosine, int k, bool int8_filter, int threads,
                         Out<double, nb::ndim<2>> scores, Out<int64_t, nb::ndim<2>> rows) {
    const References references{int64_t(order.shape(0)), int(vectors.shape(1)), vectors.data(),    order.data(),
                                sigma_sq.data(),         int64_t(bucket_low.shape(0)), bucket_first.data(), bucket_low.data(),     bucket_high.data(), tile_norm.data(),
                                codes.data(),            tile_scale.data(),     tile_residual.data()};
    const Probes asked{int64_t(probes.shape(0)), probes.data(), probe_sigma_sq.data()};
    Found found{scores.data(), rows.data(), 0};
    nb::gil_scoped_release release;
    search(set_named(set), references, asked, cosine ? Metric::cosine : Metric::fast_mls, k, int8_filter, threads, found);
    return found.rescored;
}

NB_MODULE(_kernel, m) {
    m.attr("TILE") = kTile;
    m.attr("LANES") = kLanes;
    m.def("instruction_sets", [] {
        nb::list listed;
        for (const InstructionSet *set : sets()) listed.append(nb::make_tuple(set->name, set->fast_int8));
        return listed;
    });
    m.def("search", &search_py, "set"_a, "vectors"_a, "order"_a, "sigma_sq"_a, "bucket_first"_a, "bucket_low"_a, "bucket_high"_a,
          "tile_norm"_a, "codes"_a, "tile_scale"_a, "tile_residual"_a, "probes"_a, "probe_sigma_sq"_a, "cosine"_a, "k"_a,
          "int8_filter"_a, "threads"_a, "scores"_a, "rows"_a);
    m.def("row_peaks", [](In<float, nb::ndim<2>> vectors, int threads, Out<float, nb::ndim<1>> peaks) {
        nb::gil_scoped_release release;
        row_peaks(vectors.data(), int64_t(vectors.shape(0)), int(vectors.shape(1)), threads, peaks.data());
    });
    m.def("pack", [](In<float, nb::ndim<2>> vectors, In<int64_t, nb::ndim<1>> order, int threads,
                     Out<uint8_t, nb::ndim<4>> codes, Out<float, nb::ndim<1>> scale, Out<float, nb::ndim<1>> residual,
                     Out<float, nb::ndim<1>> norm) {
        nb::gil_scoped_release release;
        pack(vectors.data(), order.data(), int64_t(order.shape(0)), int(vectors.shape(1)), threads,
             codes.shape(0) ? codes.data() : nullptr, scale.data(), residual.data(), norm.data());
    });
    m.def("fast_mls_matrix", [](const std::string &set, In<float, nb::ndim<2>> mu_i, In<float, nb::ndim<1>> sigma_sq_i,
                                In<float, nb::ndim<2>> mu_j, In<float, nb::ndim<1>> sigma_sq_j,
                                Out<float, nb::ndim<2>> out, int threads) {
        nb::gil_scoped_release release;
        fast_mls_matrix(set_named(set), mu_i.data(), sigma_sq_i.data(), int64_t(mu_i.shape(0)), mu_j.data(),
                        sigma_sq_j.data(), int64_t(mu_j.shape(0)), int(mu_i.shape(1)), out.data(), threads);
    });
    m.def("mls_matrix", [](const std::string &set, In<float, nb::ndim<2>> mu_i, In<float, nb::ndim<2>> sigma_sq_i,
                           In<float, nb::ndim<2>> mu_j, In<float, nb::ndim<2>> sigma_sq_j, int merge,
                           Out<float, nb::ndim<2>> out, int threads) {
        nb::gil_scoped_release release;
        mls_matrix(set_named(set), mu_i.data(), sigma_sq_i.data(), int64_t(mu_i.shape(0)), mu_j.data(), sigma_sq_j.data(),
                   int64_t(mu_j.shape(0)), int(mu_i.shape(1)), merge, out.data(), threads);
    });
}
