#pragma once

// Q4_1 and Q8_0 weights laid out for x86: 16 rows of a matrix side by side, four bytes of each in turn. A lane belongs to
// a row, four bytes of an activation are broadcast to all lanes, and no sum crosses lanes.
//
// What is computed is what vec_dot computes, from the same blocks of the same activations; only the order in which
// blocks of 32 are added up differs. It is the same order for every number of activations, so a row of results does not
// depend on what is computed beside it.

#include "quants.h"
#include "repack.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define GGML_REPACK_X16
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) || defined(__AVXVNNI__)
#define GGML_REPACK_X16_VNNI
#endif
#endif

#if defined(GGML_REPACK_X16)

namespace ggml::cpu::repack::x16 {

constexpr int ROWS  = 16;  // of weights, side by side
constexpr int K     = 32;  // numbers of a row in a block
constexpr int FOURS = K / 4;

// Lanes as wide as the processor has them.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)

constexpr int LANES  = 16;
constexpr int WIDEST = 8;  // activations of a tile, whose sums stay in registers
using ints           = __m512i;
using floats         = __m512;

static inline ints   load(const void * from) { return _mm512_loadu_si512(from); }
static inline floats load_halves(const ggml_half * from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) from)); }
static inline ints   all(int32_t value) { return _mm512_set1_epi32(value); }
static inline floats all(float value) { return _mm512_set1_ps(value); }
static inline ints   low_nibbles(ints of) { return _mm512_and_si512(of, _mm512_set1_epi8(0x0F)); }
static inline ints   high_nibbles(ints of) { return low_nibbles(_mm512_srli_epi16(of, 4)); }
static inline ints   products(ints sum, ints q, ints four) { return _mm512_dpbusd_epi32(sum, q, four); }
static inline floats as_floats(ints sum) { return _mm512_cvtepi32_ps(sum); }
static inline floats times(floats a, floats b) { return _mm512_mul_ps(a, b); }
static inline floats add_product(floats sum, floats a, floats b) { return _mm512_fmadd_ps(a, b, sum); }
static inline void   store(float * to, floats from) { _mm512_storeu_ps(to, from); }

#else

constexpr int LANES  = 8;
constexpr int WIDEST = 4;
using ints           = __m256i;
using floats         = __m256;

static inline ints   load(const void * from) { return _mm256_loadu_si256((const __m256i *) from); }
static inline floats load_halves(const ggml_half * from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) from)); }
static inline ints   all(int32_t value) { return _mm256_set1_epi32(value); }
static inline floats all(float value) { return _mm256_set1_ps(value); }
static inline ints   low_nibbles(ints of) { return _mm256_and_si256(of, _mm256_set1_epi8(0x0F)); }
static inline ints   high_nibbles(ints of) { return low_nibbles(_mm256_srli_epi16(of, 4)); }
static inline floats times(floats a, floats b) { return _mm256_mul_ps(a, b); }
static inline floats add_product(floats sum, floats a, floats b) { return _mm256_fmadd_ps(a, b, sum); }
static inline void   store(float * to, floats from) { _mm256_storeu_ps(to, from); }

#if defined(GGML_REPACK_X16_VNNI)
static inline ints products(ints sum, ints q, ints four) {
#if defined(__AVX512VNNI__)
    return _mm256_dpbusd_epi32(sum, q, four);
#else
    return _mm256_dpbusd_avx_epi32(sum, q, four);
#endif
}
static inline floats as_floats(ints sum) { return _mm256_cvtepi32_ps(sum); }
#else
// For four bits only: the sums of a block stay in 16 bits, since eight times two products are at most 8 * 2 * 15 * 128.
static inline ints   products(ints sum, ints q, ints four) { return _mm256_add_epi16(sum, _mm256_maddubs_epi16(q, four)); }
static inline floats as_floats(ints sum) { return _mm256_cvtepi32_ps(_mm256_madd_epi16(sum, _mm256_set1_epi16(1))); }
#endif

#endif

static inline float number(ggml_half of) { return GGML_CPU_FP16_TO_FP32(of); }

// Each type says how its blocks lie here, how they are read, where their products with an activation's block begin, and
// what becomes of these.

struct q4_1 {
    using plain      = block_q4_1;
    using activation = block_q8_1;

    struct block {
        ggml_half d[ROWS];
        ggml_half m[ROWS];
        uint8_t   qs[ROWS * K / 2];
    };

    static void put(block & to, int row, const plain & from) {
        to.d[row] = from.GGML_COMMON_AGGR_U.GGML_COMMON_AGGR_S.d;
        to.m[row] = from.GGML_COMMON_AGGR_U.GGML_COMMON_AGGR_S.m;
        for (int at = 0; at < K / 2; at += 4) {
            memcpy(to.qs + at * ROWS + row * 4, from.qs + at, 4);
        }
    }

    static ints quants(const block & of, int four, int row) {
        const ints both = load(of.qs + four % (FOURS / 2) * ROWS * 4 + row * 4);
        return four < FOURS / 2 ? low_nibbles(both) : high_nibbles(both);
    }

    static int32_t start(const activation &) { return 0; }

    static floats added(floats sum, const block & of, int row, const activation & a, ints dot) {
        const auto & scales = a.GGML_COMMON_AGGR_U.GGML_COMMON_AGGR_S;
        sum = add_product(sum, load_halves(of.m + row), all(number(scales.s)));
        return add_product(sum, times(load_halves(of.d + row), all(number(scales.d))), as_floats(dot));
    }
};

// A block of Q8_0 with the sum of its numbers; as large as one of Q8_1, whose sum is rounded.
struct summed_q8_0 {
    ggml_half d;
    int16_t   sum;
    int8_t    qs[K];
};

struct q8_0 {
    using plain      = block_q8_0;
    using activation = summed_q8_0;

    struct block {
        ggml_half d[ROWS];
        uint8_t   qs[ROWS * K];  // plus 128, since instructions multiply bytes without a sign with such that have one
    };

    static void put(block & to, int row, const plain & from) {
        to.d[row] = from.d;
        for (int at = 0; at < K; at += 4) {
            uint32_t four;
            memcpy(&four, from.qs + at, 4);
            four ^= 0x80808080;
            memcpy(to.qs + at * ROWS + row * 4, &four, 4);
        }
    }

    static ints quants(const block & of, int four, int row) { return load(of.qs + four * ROWS * 4 + row * 4); }

    static int32_t start(const activation & a) { return -128 * a.sum; }

    static floats added(floats sum, const block & of, int row, const activation & a, ints dot) {
        return add_product(sum, times(load_halves(of.d + row), all(number(a.d))), as_floats(dot));
    }
};

static_assert(sizeof(q4_1::block) == ROWS * sizeof(block_q4_1), "wrong q4_1 block size/padding");
static_assert(sizeof(q8_0::block) == ROWS * sizeof(block_q8_0), "wrong q8_0 block size/padding");
static_assert(sizeof(summed_q8_0) == sizeof(block_q8_1), "wrong summed_q8_0 block size/padding");

// Quantize a row of activations as Q8_0 does, each block with its sum.
static void quantize_row_summed(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k) {
    auto * to = (summed_q8_0 *) y;
    for (int64_t b = 0; b < k / K; b++, to++, x += K) {
        block_q8_0 made;
        quantize_row_q8_0(x, &made, K);
        to->d       = made.d;
        int32_t sum = 0;
        for (int at = 0; at < K; at++) {
            to->qs[at] = made.qs[at];
            sum += made.qs[at];
        }
        to->sum = (int16_t) sum;
    }
}

template <class W> static int lay_out(struct ggml_tensor * t, const void * data, size_t data_size) {
    const int64_t nrow = ggml_nrows(t);
    const int64_t nb   = t->ne[0] / K;
    GGML_ASSERT(data_size == nrow * nb * sizeof(typename W::plain));
    if (t->ne[0] % K != 0 || t->ne[1] % ROWS != 0) {
        return -1;
    }
    const auto * from = (const typename W::plain *) data;
    auto *       to   = (typename W::block *) t->data;
    for (int64_t row = 0; row < nrow; row += ROWS, from += ROWS * nb) {
        for (int64_t b = 0; b < nb; b++, to++) {
            for (int r = 0; r < ROWS; r++) {
                W::put(*to, r, from[r * nb + b]);
            }
        }
    }
    return 0;
}

static inline ints four_of(const int8_t * qs) {
    int32_t four;
    memcpy(&four, qs, sizeof(four));
    return all(four);
}

// 16 rows of weights times COLS activations, whose blocks lie nb apart; a column of results lies bs behind the one before.
template <class W, int COLS>
static void tile(int nb, float * GGML_RESTRICT s, size_t bs, const typename W::block * GGML_RESTRICT w,
                 const typename W::activation * GGML_RESTRICT a) {
    for (int row = 0; row < ROWS; row += LANES) {
        floats sum[COLS];
        for (int c = 0; c < COLS; c++) {
            sum[c] = all(0.0f);
        }
        for (int b = 0; b < nb; b++) {
            ints dot[COLS];
            for (int c = 0; c < COLS; c++) {
                dot[c] = all(W::start(a[c * nb + b]));
            }
#pragma GCC unroll 8
            for (int four = 0; four < FOURS; four++) {
                const ints q = W::quants(w[b], four, row);
                for (int c = 0; c < COLS; c++) {
                    dot[c] = products(dot[c], q, four_of(a[c * nb + b].qs + four * 4));
                }
            }
            for (int c = 0; c < COLS; c++) {
                sum[c] = W::added(sum[c], w[b], row, a[c * nb + b], dot[c]);
            }
        }
        for (int c = 0; c < COLS; c++) {
            store(s + c * bs + row, sum[c]);
        }
    }
}

// nr activations times nc rows of weights, a multiple of 16.
template <class W>
static void product(int n, float * GGML_RESTRICT s, size_t bs, const void * GGML_RESTRICT vx, const void * GGML_RESTRICT vy, int nr, int nc) {
    const int    nb = n / K;
    const auto * w  = (const typename W::block *) vx;
    const auto * a  = (const typename W::activation *) vy;
    for (int x = 0; x < nc; x += ROWS, w += nb) {
        int c = 0;
        for (; c + WIDEST <= nr; c += WIDEST) {
            tile<W, WIDEST>(nb, s + c * bs + x, bs, w, a + c * nb);
        }
        for (; c + 4 <= nr; c += 4) {
            tile<W, 4>(nb, s + c * bs + x, bs, w, a + c * nb);
        }
        for (; c + 2 <= nr; c += 2) {
            tile<W, 2>(nb, s + c * bs + x, bs, w, a + c * nb);
        }
        for (; c < nr; c++) {
            tile<W, 1>(nb, s + c * bs + x, bs, w, a + c * nb);
        }
    }
}

}  // namespace ggml::cpu::repack::x16

#endif  // GGML_REPACK_X16
