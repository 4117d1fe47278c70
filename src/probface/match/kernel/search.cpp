// Exact top k: a cosine threshold for each probe and bucket filters cheap products, the survivors are scored in float64.
//
// FastMLS S > tau exactly when cos > b(t) = 1 + (t / 2)(tau + log t), t = sigma_i^2 + sigma_j^2. b is convex, so over a
// bucket with t in [low, high] it is least at t* = clamp(exp(-1 - tau), low, high): a reference whose cosine is below
// b(t*) cannot enter the top k whose k-th score is tau. The product that the filter sees is off by at most
//   int8:     e_i n_j + n_i e_j + e_i e_j      (e: length of what the code leaves, n: length of the vector)
//   float32:  about D 2^-24 n_i n_j
// and the threshold is lowered by that much. Survivors' scores have one definition (InstructionSet::dot, then the line in
// `score`), ties go to the lower row: the answer is the same for every filter, instruction set and number of threads.
#include "kernel.h"
#include "threads.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace probface {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kNobody = std::numeric_limits<int64_t>::max();
constexpr int64_t kBlockProbes = 512;  // probes that see a tile while it is in the cache
constexpr int64_t kMostEntries = 1 << 24;  // of all threads' own top k, when each searches a share of the references
constexpr int kAhead = 6;              // survivors whose vectors are fetched ahead of their turn

struct Entry {
    double score;
    int64_t row;
};

inline bool worse(const Entry &a, const Entry &b) { return a.score < b.score || (a.score == b.score && a.row > b.row); }

// The k best so far, the worst of them at the root.
class Best {
  public:
    explicit Best(int k) : entries_(k, Entry{-kInfinity, kNobody}) {}
    double worst() const { return entries_[0].score; }
    bool offer(Entry entry) {
        if (!worse(entries_[0], entry)) return false;
        size_t place = 0, size = entries_.size();
        for (;;) {
            size_t child = 2 * place + 1;
            if (child >= size) break;
            if (child + 1 < size && worse(entries_[child + 1], entries_[child])) ++child;
            if (!worse(entries_[child], entry)) break;
            entries_[place] = entries_[child];
            place = child;
        }
        entries_[place] = entry;
        return true;
    }
    void merge(const Best &other) {
        for (const Entry &entry : other.entries_)
            if (entry.row != kNobody) offer(entry);
    }
    void sorted(double *scores, int64_t *rows) {
        std::sort(entries_.begin(), entries_.end(), [](const Entry &a, const Entry &b) { return worse(b, a); });
        for (size_t i = 0; i < entries_.size(); ++i) {
            scores[i] = entries_[i].score;
            rows[i] = entries_[i].row == kNobody ? -1 : entries_[i].row;
        }
    }

  private:
    std::vector<Entry> entries_;
};

// What the filter reads of the probes of a block, an array for each quantity.
struct Block {
    int64_t first;
    int count;
    std::vector<double> tau, turn;       // k-th score so far; exp(-1 - tau), where b turns
    std::vector<double> cosine;          // b(t*) in the present bucket
    std::vector<float> residual, norm;   // e_i, n_i
    std::vector<double> inverse_scale;   // 1 / a_i
    std::vector<int32_t> start, least;   // int8: -128 sum(codes); thresholds of the present tile
    std::vector<float> float_least;
    std::vector<int8_t> codes;           // panels of kPanel probes: [steps][kPanel][4]
    std::vector<float> values;           // or [dim][kPanel]
    std::vector<char> changed;           // whether the present tile has raised tau
};

class Search {
  public:
    Search(const InstructionSet &set, const References &references, const Probes &probes, Metric metric, bool int8)
        : set_(set), refs_(references), probes_(probes), metric_(metric), int8_(int8),
          steps_((references.dim + 3) / 4), nothing_(size_t(references.dim)) {}

    // Searches the probes [first, first + count) in each `parts`-th bucket from `part` on; returns how many pairs were
    // rescored.
    int64_t run(int64_t first, int64_t count, int64_t part, int64_t parts, Best *best) const {
        Block block = prepare(first, int(count));
        std::vector<Survivor> survivors;
        std::vector<int> changed;
        std::vector<float> tile(int8_ ? 0 : size_t(refs_.dim) * kTile);
        int64_t rescored = 0;
        // From the largest sigma^2 down: there a probe without a mate has its best scores. One tile of each bucket comes
        // before all others, so that tau is high early whatever the probe likes best.
        for (int first_tiles = 1; first_tiles >= 0; --first_tiles)
            for (int64_t turn = part; turn < refs_.buckets; turn += parts) {
                const int64_t bucket = refs_.buckets - 1 - turn, start = refs_.bucket_first[bucket];
                const int64_t end = first_tiles ? start + kTile : refs_.bucket_first[bucket + 1];
                set_.thresholds(block.tau.data(), block.turn.data(), probes_.sigma_sq + first, block.count,
                                refs_.bucket_low[bucket], refs_.bucket_high[bucket], metric_ == Metric::cosine,
                                block.cosine.data());
                for (int64_t position = first_tiles ? start : start + kTile; position < end; position += kTile) {
                    filter(block, position, tile.data(), survivors);
                    rescored += int64_t(survivors.size());
                    rescore(block, bucket, position + kTile < end, survivors, changed, best);
                }
            }
        return rescored;
    }

  private:
    struct Survivor {
        int probe;
        int64_t position, row;
    };

    Block prepare(int64_t first, int count) const {
        Block block;
        block.first = first, block.count = count;
        const int padded = (count + kPanel - 1) / kPanel * kPanel, dim = refs_.dim;
        block.tau.assign(count, -kInfinity);
        block.turn.assign(count, 0), block.changed.assign(count, false);
        block.cosine.assign(count, -kInfinity);
        block.residual.resize(count), block.norm.resize(count), block.inverse_scale.resize(count);
        block.start.assign(padded, 0), block.least.assign(padded, 0), block.float_least.assign(padded, 0);
        if (int8_)
            block.codes.assign(size_t(padded) * steps_ * 4, 0);
        else
            block.values.assign(size_t(padded) * dim, 0);
        for (int p = 0; p < count; ++p) {
            const float *x = probes_.vectors + (first + p) * dim;
            float most = 0;
            double squares = 0, left = 0;
            for (int d = 0; d < dim; ++d) most = std::max(most, std::fabs(x[d])), squares += double(x[d]) * x[d];
            block.norm[p] = float(std::sqrt(squares) * (1 + 1e-6));
            if (!int8_) {
                float *panel = block.values.data() + size_t(p / kPanel) * dim * kPanel + p % kPanel;
                for (int d = 0; d < dim; ++d) panel[d * kPanel] = x[d];
                continue;
            }
            const float scale = most / 127.0f, inverse = 127.0f / most;
            int8_t *panel = block.codes.data() + size_t(p / kPanel) * steps_ * kPanel * 4 + p % kPanel * 4;
            int32_t sum = 0;
            for (int d = 0; d < dim; ++d) {
                int code = std::min(127, std::max(-127, int(std::lrint(x[d] * inverse))));
                panel[(d / 4) * kPanel * 4 + d % 4] = int8_t(code);
                sum += code;
                double rest = double(x[d]) - double(scale) * code;
                left += rest * rest;
            }
            block.inverse_scale[p] = 1.0 / scale;
            block.residual[p] = float(std::sqrt(left) * (1 + 1e-6));
            block.start[p] = -128 * sum;
        }
        return block;
    }

    void filter(Block &block, int64_t position, float *tile, std::vector<Survivor> &survivors) const {
        survivors.clear();
        const int64_t index = position / kTile;
        if (!int8_ && block.count < kPanel / 2) {  // too few probes to pay for transposing the tile
            for (int64_t at = position; at < std::min(refs_.count, position + kTile); ++at)
                if (const int64_t row = row_at(at); row >= 0)
                    for (int p = 0; p < block.count; ++p) survivors.push_back({p, at, row});
            return;
        }
        if (int8_) {
            set_.int8_least(block.cosine.data(), block.residual.data(), block.norm.data(), block.inverse_scale.data(),
                            block.count, refs_.tile_residual[index], refs_.tile_norm[index],
                            1.0 / refs_.tile_scale[index], block.least.data());
        } else {
            const double slack = (1.06 * (refs_.dim + 8) / (1 << 24)) * refs_.tile_norm[index];
            for (int p = 0; p < block.count; ++p)
                block.float_least[p] = float(block.cosine[p] - slack * block.norm[p] - 1e-7 * std::fabs(block.cosine[p]));
            load_tile(position, tile);
        }
        const uint8_t *codes = int8_ ? refs_.codes + size_t(index) * steps_ * kTile * 4 : nullptr;
        for (int p = 0; p < block.count; p += kPanel) {
            const int probes = std::min(kPanel, block.count - p);
            uint64_t hits[kPanel], any = 0;
            if (int8_)
                set_.int8_panel(codes, block.codes.data() + size_t(p) * steps_ * 4, steps_, probes, &block.start[p],
                                &block.least[p], hits);
            else
                set_.float_panel(tile, block.values.data() + size_t(p) * refs_.dim, refs_.dim, probes,
                                 &block.float_least[p], hits);
            for (int q = 0; q < probes; ++q) any |= hits[q];
            if (!any) continue;
            for (int q = 0; q < probes; ++q)
                for (uint64_t left = hits[q]; left; left &= left - 1) {
                    const int64_t at = position + __builtin_ctzll(left);
                    if (const int64_t row = row_at(at); row >= 0) survivors.push_back({p + q, at, row});
                }
        }
    }

    void load_tile(int64_t position, float *tile) const {
        const float *rows[kTile];
        for (int r = 0; r < kTile; ++r) {
            const int64_t row = row_at(position + r), next = row_at(position + r + kTile);
            rows[r] = row >= 0 ? refs_.vectors + row * refs_.dim : nothing_.data();
            if (next >= 0) fetch(next);
        }
        set_.transpose(rows, refs_.dim, tile);
    }

    // -1 for erased ones, and beyond the end. Read once: another thread may erase a row meanwhile.
    int64_t row_at(int64_t position) const {
        return position < refs_.count ? __atomic_load_n(refs_.order + position, __ATOMIC_RELAXED) : -1;
    }

    void fetch(int64_t row) const {
        const char *vector = reinterpret_cast<const char *>(refs_.vectors + row * refs_.dim);
        for (int byte = 0; byte < refs_.dim * 4; byte += 64) __builtin_prefetch(vector + byte);
    }

    void rescore(Block &block, int64_t bucket, bool more, const std::vector<Survivor> &survivors,
                 std::vector<int> &changed, Best *best) const {
        changed.clear();
        for (size_t i = 0; i < survivors.size(); ++i) {
            if (i + kAhead < survivors.size()) fetch(survivors[i + kAhead].row);
            const auto &[p, position, row] = survivors[i];
            const int64_t probe = block.first + p;
            const double cosine =
                set_.dot(probes_.vectors + probe * refs_.dim, refs_.vectors + row * refs_.dim, refs_.dim);
            if (cosine < block.cosine[p]) continue;  // passed the filter by its slack only
            const double t = double(probes_.sigma_sq[probe]) + double(refs_.sigma_sq[position]);
            const double score = metric_ == Metric::cosine ? cosine : -(2.0 - 2.0 * cosine) / t - std::log(t);
            if (best[p].offer({score, row}) && !block.changed[p]) {
                block.changed[p] = true;
                changed.push_back(p);
            }
        }
        // The new k-th scores, once for each probe; a higher threshold at once only where the bucket goes on.
        for (const int p : changed) {
            block.changed[p] = false;
            block.tau[p] = best[p].worst();
            if (metric_ == Metric::fast_mls) block.turn[p] = std::exp(-1.0 - block.tau[p]);
            if (more)
                set_.thresholds(&block.tau[p], &block.turn[p], probes_.sigma_sq + block.first + p, 1,
                                refs_.bucket_low[bucket], refs_.bucket_high[bucket], metric_ == Metric::cosine,
                                &block.cosine[p]);
        }
    }

    const InstructionSet &set_;
    const References &refs_;
    const Probes &probes_;
    const Metric metric_;
    const bool int8_;
    const int steps_;
    const std::vector<float> nothing_;
};

}  // namespace

void search(const InstructionSet &set, const References &references, const Probes &probes, Metric metric, int k,
            bool int8_filter, int threads, Found &found) {
    const Search work(set, references, probes, metric, int8_filter);
    // Many probes: each thread has blocks of them. Few: all threads have all probes, and a share of the buckets.
    const bool share_probes =
        probes.count >= int64_t(threads) * 4 * kPanel || probes.count * int64_t(k) * threads > kMostEntries;
    const int64_t parts = share_probes ? 1 : std::min<int64_t>(threads, references.buckets);
    int64_t size = kBlockProbes;
    if (share_probes) size = std::min(size, (probes.count + threads - 1) / threads);
    const int64_t blocks = (probes.count + size - 1) / size;
    std::vector<int64_t> rescored(size_t(std::max(threads, 1)), 0);
    std::vector<std::vector<Best>> shares(size_t(share_probes ? 0 : blocks * parts));
    auto write = [&](int64_t first, std::vector<Best> &best) {
        for (size_t p = 0; p < best.size(); ++p) {
            const int64_t probe = first + int64_t(p);
            best[p].sorted(found.scores + probe * k, found.rows + probe * k);
        }
    };
    in_parallel(threads, blocks * parts, [&](int thread, int64_t unit) {
        const int64_t first = unit / parts * size, count = std::min(size, probes.count - first);
        std::vector<Best> best;
        best.assign(size_t(count), Best(k));
        rescored[size_t(thread)] += work.run(first, count, unit % parts, parts, best.data());
        if (share_probes)
            write(first, best);
        else
            shares[size_t(unit)] = std::move(best);
    });
    for (int64_t unit = 0; unit < int64_t(shares.size()); unit += parts) {
        std::vector<Best> &whole = shares[size_t(unit)];
        for (int64_t part = 1; part < parts; ++part)
            for (size_t p = 0; p < whole.size(); ++p) whole[p].merge(shares[size_t(unit + part)][p]);
        write(unit / parts * size, whole);
    }
    found.rescored = 0;
    for (int64_t count : rescored) found.rescored += count;
}

}  // namespace probface
