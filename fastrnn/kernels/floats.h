/* How a thread computes with floats: its rounding, and whether subnormal numbers count as zero. */
#ifndef FASTRNN_FLOATS_H
#define FASTRNN_FLOATS_H

#if defined(__SSE2__)
#include <xmmintrin.h>
#define FLUSHES 0x8040u  /* results that would be subnormal, and operands that are */
static inline unsigned long long float_mode(void) { return _mm_getcsr(); }
static inline void set_float_mode(unsigned long long mode) { _mm_setcsr((unsigned int)mode); }
#elif defined(__aarch64__)
#define FLUSHES (1ull << 24)
static inline unsigned long long float_mode(void) {
    unsigned long long mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
static inline void set_float_mode(unsigned long long mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
#define FLUSHES 0u  /* unknown: nothing is changed */
static inline unsigned long long float_mode(void) { return 0; }
static inline void set_float_mode(unsigned long long mode) { (void)mode; }
#endif

#endif
