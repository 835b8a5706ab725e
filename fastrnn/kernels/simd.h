/* The vector type of this build, and the few operations on it that Cython has no words for.
 *
 * The build defines REAL (float or double), VECTOR_BYTES (the register's length on the build's instruction
 * set; a longer one is emulated and some thirty times slower) and TILE_VECTORS (how many registers a tile may
 * use for its sums). Arithmetic on vec is plain C: a + b * c is one fused instruction where the build has it.
 */
#ifndef FASTRNN_SIMD_H
#define FASTRNN_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef REAL real;
typedef REAL vec __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL unaligned_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

/* Integer lanes as wide as REAL: the bits of a vec, and the result of comparing two. */
#define REAL_IS_DOUBLE (sizeof(REAL) == 8)
typedef __typeof__((vec){0} < (vec){0}) bits;

/* A panel of packed weights is two vectors wide; a tile is at most TILE_VECTORS sums; a strip is at most MOST_TILES
 * tiles one below the other and STAGE_VECTORS sums. */
enum { LANES = VECTOR_BYTES / sizeof(REAL), WIDTH = 2, PANEL = WIDTH * LANES, MOST_TILES = 8 };
enum { STAGE_VECTORS = 3 * MOST_TILES * TILE_VECTORS };
enum { CACHE_LINE = 64 / sizeof(REAL) };

/* Steps of k in one turn of a tile's loop: a processor whose other thread is at work feeds this one every other cycle
 * only, and a loop of few instructions not even then. Where products are two instructions, 16 registers do not hold all
 * sums through four steps. */
#if defined(__FMA__)
enum { STEPS = 4 };
#else
enum { STEPS = TILE_VECTORS < 24 ? 1 : 4 };
#endif

/* From so many rows on a tile has time to fetch weights ahead. */
enum { FETCHING_ROWS = TILE_VECTORS < 24 ? 3 : 4 };

typedef struct { REAL values[STAGE_VECTORS * LANES]; } __attribute__((aligned(64))) strip_values;

/* Weights of more bytes are shared out among workers rather than read by each, and read for more rows at a time: they
 * leave the second-level cache, of 512 KiB to 2 MiB, at every step. */
#define LARGE_WEIGHTS (1 << 21)

/* Weights of fewer numbers stay in the second-level cache: they need not be fetched ahead. */
#define SMALL_WEIGHTS (LARGE_WEIGHTS / 8 / (ptrdiff_t)sizeof(REAL))

/* Fetch what is soon read, into the second-level cache; what is soon read and written. */
static inline void fetch(const real *p) { __builtin_prefetch(p, 0, 2); }
static inline void prefetch(const real *p) { __builtin_prefetch(p, 1); }
static inline vec load(const real *p) { return *(const unaligned_vec *)p; }
static inline void store(real *p, vec v) { *(unaligned_vec *)p = v; }
static inline vec splat(real x) { return x - (vec){0}; }

/* The first n of LANES numbers, 0 < n < LANES, and zeros; no others are read or written. */
#if VECTOR_BYTES == 64
#define FIRST(n) ((1u << (n)) - 1)
static inline vec load_first(const real *p, ptrdiff_t n) {
    return REAL_IS_DOUBLE ? (vec)_mm512_maskz_loadu_pd(FIRST(n), p) : (vec)_mm512_maskz_loadu_ps(FIRST(n), p);
}
static inline vec keep_first(vec v, ptrdiff_t n) {
    return REAL_IS_DOUBLE ? (vec)_mm512_maskz_mov_pd(FIRST(n), (__m512d)v)
                          : (vec)_mm512_maskz_mov_ps(FIRST(n), (__m512)v);
}
static inline void store_first(real *p, vec v, ptrdiff_t n) {
    if (REAL_IS_DOUBLE) _mm512_mask_storeu_pd(p, FIRST(n), (__m512d)v);
    else _mm512_mask_storeu_ps(p, FIRST(n), (__m512)v);
}
#elif VECTOR_BYTES == 32 && defined(__AVX2__)
static inline __m256i first_lanes(ptrdiff_t n) {
    static const int32_t yes_and_no[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(yes_and_no + 8 - n * (ptrdiff_t)sizeof(real) / 4));
}
static inline vec load_first(const real *p, ptrdiff_t n) {
    return REAL_IS_DOUBLE ? (vec)_mm256_maskload_pd((const double *)p, first_lanes(n))
                          : (vec)_mm256_maskload_ps((const float *)p, first_lanes(n));
}
static inline vec keep_first(vec v, ptrdiff_t n) { return (vec)((bits)v & (bits)first_lanes(n)); }
static inline void store_first(real *p, vec v, ptrdiff_t n) {  /* a store with a mask can take some twenty cycles */
    __m128i part = _mm256_castsi256_si128((__m256i)v);
    char *to = (char *)p;
    size_t bytes = n * sizeof(real);
    if (bytes & 16) {
        _mm_storeu_si128((__m128i *)to, part);
        part = _mm256_extracti128_si256((__m256i)v, 1);
        to += 16;
    }
    if (bytes & 8) {
        _mm_storel_epi64((__m128i *)to, part);
        part = _mm_unpackhi_epi64(part, part);
        to += 8;
    }
    if (bytes & 4) memcpy(to, &part, 4);
}
#else
static inline vec load_first(const real *p, ptrdiff_t n) {
    real values[LANES] = {0};
    for (ptrdiff_t i = 0; i < n; i++) values[i] = p[i];
    return load(values);
}
static inline vec keep_first(vec v, ptrdiff_t n) {
    real values[LANES];
    store(values, v);
    for (ptrdiff_t i = n; i < LANES; i++) values[i] = 0;
    return load(values);
}
static inline void store_first(real *p, vec v, ptrdiff_t n) {
    real values[LANES];
    store(values, v);
    for (ptrdiff_t i = 0; i < n; i++) p[i] = values[i];
}
#endif

/* p, of which the compiler knows no more how it came about: else it mixes what is read by it in the steps of an unrolled
 * loop, for which there are not registers enough. */
static inline const real *fresh(const real *p) { __asm__ volatile("" : "+r"(p)); return p; }

/* Likewise, with all that was written before in memory, from where splat_at reads it unbeknown to the compiler. */
static inline const real *settled(const real *p) { __asm__ volatile("" : "+r"(p) : : "memory"); return p; }

/* n, in a register: else compilers compute it anew in each step of an unrolled loop. */
static inline ptrdiff_t at_hand(ptrdiff_t n) { __asm__("" : "+r"(n)); return n; }

/* p[row + n] in all lanes, n a constant, as optimizers see: one instruction, where they make an address for each p + row
 * besides. */
#if defined(__AVX2__) && defined(__OPTIMIZE__)
static inline vec splat_at(const real *p, ptrdiff_t row, const int n) {
    vec v;
    if (REAL_IS_DOUBLE) __asm__("vbroadcastsd %c3(%1,%2,8), %0" : "=v"(v) : "r"(p), "r"(row), "i"(8 * n));
    else __asm__("vbroadcastss %c3(%1,%2,4), %0" : "=v"(v) : "r"(p), "r"(row), "i"(4 * n));
    return v;
}
#else
static inline vec splat_at(const real *p, ptrdiff_t row, const int n) { return splat(p[row + n]); }
#endif

/* Lane by lane yes where a < b, else no. A NaN compares false: put the operand that must survive in no. */
static inline vec where_less(vec a, vec b, vec yes, vec no) {
    bits mask = a < b;
    return (vec)((mask & (bits)yes) | (~mask & (bits)no));
}

/* Lane by lane a where it is the lesser, or the greater, else b: a NaN in b survives. The instructions do just that. */
#if defined(__x86_64__)
#define VECTOR_OP(name, ps, pd, single_t, double_t) \
    static inline vec name(vec a, vec b) { \
        return REAL_IS_DOUBLE ? (vec)pd((double_t)a, (double_t)b) : (vec)ps((single_t)a, (single_t)b); \
    }
#if VECTOR_BYTES == 64
VECTOR_OP(lesser, _mm512_min_ps, _mm512_min_pd, __m512, __m512d)
VECTOR_OP(greater, _mm512_max_ps, _mm512_max_pd, __m512, __m512d)
#elif VECTOR_BYTES == 32
VECTOR_OP(lesser, _mm256_min_ps, _mm256_min_pd, __m256, __m256d)
VECTOR_OP(greater, _mm256_max_ps, _mm256_max_pd, __m256, __m256d)
#else
VECTOR_OP(lesser, _mm_min_ps, _mm_min_pd, __m128, __m128d)
VECTOR_OP(greater, _mm_max_ps, _mm_max_pd, __m128, __m128d)
#endif
#else
static inline vec lesser(vec a, vec b) { return where_less(a, b, a, b); }
static inline vec greater(vec a, vec b) { return where_less(b, a, a, b); }
#endif

/* sum + x * y, rounded once where the build has an instruction for that: all tiles then give the same bits, whatever a
 * compiler would contract. plus_product is for factors that are read once, add_product for an unrolled loop in which
 * sums and factors have to stay in registers: of the forms of the instruction compilers there take some that overwrite
 * a factor, after which sums wander out into memory, and read a factor of several products from memory in each. */
#if defined(__FMA__)
#if VECTOR_BYTES == 64
#define FUSED(kind, type) (vec)_mm512_fmadd_##kind((__m512##type)x, (__m512##type)y, (__m512##type)sum)
#elif VECTOR_BYTES == 32
#define FUSED(kind, type) (vec)_mm256_fmadd_##kind((__m256##type)x, (__m256##type)y, (__m256##type)sum)
#else
#define FUSED(kind, type) (vec)_mm_fmadd_##kind((__m128##type)x, (__m128##type)y, (__m128##type)sum)
#endif
static inline vec plus_product(vec sum, vec x, vec y) { return REAL_IS_DOUBLE ? FUSED(pd, d) : FUSED(ps, ); }
static inline vec add_product(vec sum, vec x, vec y) {
    if (REAL_IS_DOUBLE) __asm__("vfmadd231pd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    else __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
}
#else
static inline vec plus_product(vec sum, vec x, vec y) { return sum + x * y; }
static inline vec add_product(vec sum, vec x, vec y) { return sum + x * y; }
#endif

/* What a tile's sums begin from, zeros for NULL, and where they go. An array becomes registers if all its loops are
 * unrolled early, which those in no other loop are on demand only; else it is memory, but for the loop over k. With 16
 * registers that is better still: GCC would move sums from one to another in each turn. */
#if TILE_VECTORS < 24
#define UNROLLED
#else
#define UNROLLED _Pragma("GCC unroll 24")
#endif
static inline void begin_sums(const int rows, const int vectors, vec *sums, const real *start, ptrdiff_t row) {
    UNROLLED
    for (int m = 0; m < rows; m++) {
        UNROLLED
        for (int v = 0; v < vectors; v++) sums[m * vectors + v] = start ? load(start + m * row + v * LANES) : splat(0);
    }
}
static inline void end_sums(const int rows, const int vectors, const vec *sums, real *out, ptrdiff_t row) {
    UNROLLED
    for (int m = 0; m < rows; m++) {
        UNROLLED
        for (int v = 0; v < vectors; v++) store(out + m * row + v * LANES, sums[m * vectors + v]);
    }
}

/* v, in a register, which add_product asks for itself where it names its instruction. */
#if defined(__x86_64__) && !defined(__FMA__)
static inline vec in_register(vec v) { __asm__("" : "+v"(v)); return v; }
#else
static inline vec in_register(vec v) { return v; }
#endif

/* x + ROUNDER has the exponent of 2**n, n the integer nearest to x, in its lowest bits; minus ROUNDER it is n. With
 * ROUNDER + HIGHER it has that of 2**(n + HIGHER), which is normal for any n that sigmoid asks for. */
#define MANTISSA_BITS (REAL_IS_DOUBLE ? 52 : 23)
#define EXPONENT_BIAS (REAL_IS_DOUBLE ? 1023 : 127)
#define ROUNDER ((real)((REAL_IS_DOUBLE ? 6755399441055744.0 : 12582912.0) + EXPONENT_BIAS))

#define HIGHER (REAL_IS_DOUBLE ? 64 : 32)

/* 2**n for a rounded = n + ROUNDER with a normal 2**n. */
static inline vec power_of_two(vec rounded) { return (vec)((bits)rounded << MANTISSA_BITS); }

/* Words of 32 bits, to be compared rather than computed with; mixed is a bijection in each of its arguments. */
typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t unaligned_words __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
enum { WORD_LANES = VECTOR_BYTES / 4 };
static inline words load_words(const void *p) { return *(const unaligned_words *)p; }
static inline words splat_words(uint32_t x) { return x - (words){0}; }
static inline words halves_swapped(words f) {
#if VECTOR_BYTES == 32 && defined(__x86_64__)  /* one instruction, which compilers do not find */
    return (words)_mm256_shuffle_epi8((__m256i)f, _mm256_broadcastsi128_si256(
        _mm_set_epi64x(0x0d0c0f0e09080b0a, 0x0504070601000302)));
#else
    return f << 16 | f >> 16;
#endif
}
static inline words mixed(words f, words w) { return halves_swapped(f ^ w) * splat_words(2654435761u); }

/* What compiled this build. */
#ifdef __clang__
#define COMPILER "Clang " __clang_version__
#else
#define COMPILER "GCC " __VERSION__
#endif

/* The highest x86-64 level (2, 3, 4) that processor and operating system support; 0 elsewhere or below. */
static inline int x86_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"))) return 0;
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
          && __builtin_cpu_supports("bmi2"))) return 2;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
          && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
          && __builtin_cpu_supports("avx512vl"))) return 3;
    return 4;
#else
    return 0;
#endif
}

#endif
