// Runs the kernel's search on every instruction set of the processor it runs on and holds it against plain float64:
// for processors that the tests in Python cannot be run on, under an emulator (test_other_processors.py).
#include "kernel.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

using namespace probface;

struct Case {
    int dim, probes, count, k;
};

static std::mt19937_64 dice(1);

static std::vector<float> unit_rows(int rows, int dim) {
    std::normal_distribution<float> normal;
    std::vector<float> x(size_t(rows) * dim);
    for (int r = 0; r < rows; ++r) {
        double sum = 0;
        for (int d = 0; d < dim; ++d) x[r * dim + d] = normal(dice), sum += double(x[r * dim + d]) * x[r * dim + d];
        for (int d = 0; d < dim; ++d) x[r * dim + d] = float(x[r * dim + d] / std::sqrt(sum));
    }
    return x;
}

static std::vector<float> variances(int rows) {
    std::uniform_real_distribution<float> spread(-3, 1);
    std::vector<float> s(rows);
    for (float &value : s) value = std::exp(spread(dice));
    return s;
}

static int check(const Case &c, int &searches) {
    const std::vector<float> mu = unit_rows(c.count, c.dim), probes = unit_rows(c.probes, c.dim);
    const std::vector<float> sigma = variances(c.count), probe_sigma = variances(c.probes);
    std::vector<int64_t> order(c.count), first;
    for (int i = 0; i < c.count; ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return sigma[a] < sigma[b]; });
    std::vector<float> sorted(c.count), low, high;
    for (int i = 0; i < c.count; ++i) sorted[i] = sigma[order[i]];
    for (int i = 0; i < c.count; i += kTile) {
        first.push_back(i);
        low.push_back(sorted[i]);
        high.push_back(sorted[std::min(c.count, i + kTile) - 1]);
    }
    const size_t tiles = low.size(), steps = size_t(c.dim + 3) / 4;
    first.push_back(int64_t(tiles) * kTile);
    std::vector<float> norm(tiles), scale(tiles), residual(tiles);
    std::vector<uint8_t> codes(tiles * steps * kTile * 4);
    pack(mu.data(), order.data(), c.count, c.dim, 2, codes.data(), scale.data(), residual.data(), norm.data());
    const References references{c.count,      c.dim,       mu.data(),   order.data(), sorted.data(),
                                int64_t(tiles), first.data(), low.data(), high.data(),  norm.data(),
                                codes.data(), scale.data(), residual.data()};
    const Probes asked{c.probes, probes.data(), probe_sigma.data()};
    int failures = 0;
    for (Metric metric : {Metric::fast_mls, Metric::cosine}) {
        std::vector<double> best_scores(size_t(c.probes) * c.k);
        std::vector<int64_t> best_rows(best_scores.size());
        for (int p = 0; p < c.probes; ++p) {
            std::vector<std::pair<double, int64_t>> all;
            for (int r = 0; r < c.count; ++r) {
                const double cosine = baseline()->dot(&probes[p * c.dim], &mu[r * c.dim], c.dim);
                const double t = double(probe_sigma[p]) + double(sigma[r]);
                all.push_back({metric == Metric::cosine ? -cosine : (2.0 - 2.0 * cosine) / t + std::log(t), r});
            }
            std::sort(all.begin(), all.end());
            for (int i = 0; i < c.k; ++i)
                best_scores[p * c.k + i] = -all[i].first, best_rows[p * c.k + i] = all[i].second;
        }
        const InstructionSet *sets[8];
        const int count = instruction_sets(sets, 8);
        for (int s = 0; s < count; ++s)
            for (bool int8 : {false, true})
                for (int threads : {1, 3}) {
                    std::vector<double> scores(best_scores.size());
                    std::vector<int64_t> rows(best_rows.size());
                    Found found{scores.data(), rows.data(), 0};
                    search(*sets[s], references, asked, metric, c.k, int8, threads, found);
                    ++searches;
                    double off = 0;
                    for (size_t i = 0; i < scores.size(); ++i) off = std::max(off, std::fabs(scores[i] - best_scores[i]));
                    if (rows == best_rows && off < 1e-12) continue;
                    ++failures;
                    std::printf("%s: dim %d, %d references, int8 %d, %d threads: wrong, off by %g\n", sets[s]->name, c.dim,
                                c.count, int(int8), threads, off);
                }
    }
    return failures;
}

int main() {
    const Case cases[] = {{128, 30, 2000, 10}, {33, 7, 500, 5}, {3, 2, 65, 3}, {512, 1, 300, 1}};
    int failures = 0, searches = 0;
    for (const Case &c : cases) failures += check(c, searches);
    const InstructionSet *sets[8];
    const int count = instruction_sets(sets, 8);
    for (int s = 0; s < count; ++s) std::printf("%s ", sets[s]->name);
    std::printf("\n%d searches, %d wrong\n", searches, failures);
    return failures != 0;
}
