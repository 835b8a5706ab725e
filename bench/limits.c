/* How fast one core multiplies and reads: the two loops that limits.py times. It compiles them as they are, with
   -O3 -march=native, and links them to nothing: they share no code with the kernels.

   Each loop keeps many independent sums in registers, so that the latency of an addition holds none of them up: 4 or 5
   cycles at 2 vectors a cycle need 8 to 10 sums; Arm's widest cores, at 4 a cycle, 16. */

#if defined(__AVX512F__)
enum { VECTOR = 64, SUMS = 12 }; /* bytes; how many */
#elif defined(__AVX__)
enum { VECTOR = 32, SUMS = 12 };
#elif defined(__aarch64__)
enum { VECTOR = 16, SUMS = 16 };
#else
enum { VECTOR = 16, SUMS = 12 };
#endif

typedef float vector __attribute__((vector_size(VECTOR)));

/* Flops of a round of `multiply`. */
long flops_a_round(void) { return 2 * SUMS * VECTOR / sizeof(float); }

/* In each round sum = sum * scale + shift for all sums; with scale below 1 they stay finite. */
float multiply(long rounds, float scale, float shift)
{
    vector sum[SUMS], scales = (vector){0} + scale, shifts = (vector){0} + shift;
    for (int k = 0; k < SUMS; k++)
        sum[k] = (vector){0} + (float)k; /* were they all the same, the compiler would keep only one of them */
    for (long round = 0; round < rounds; round++)
        for (int k = 0; k < SUMS; k++)
            sum[k] = sum[k] * scales + shifts;
    for (int k = 1; k < SUMS; k++)
        sum[0] += sum[k];
    return sum[0][0];
}

/* Sums up, `rounds` times, an array that starts where a vector may, all but what fills no round of sums at its end. */
float add_up(const float *array, long bytes, long rounds)
{
    vector sum[SUMS] = {{0}};
    for (long round = 0; round < rounds; round++) {
        const vector *at = (const vector *)array, *end = at + bytes / VECTOR;
        for (; end - at >= SUMS; at += SUMS)
            for (int k = 0; k < SUMS; k++)
                sum[k] += at[k];
    }
    for (int k = 1; k < SUMS; k++)
        sum[0] += sum[k];
    return sum[0][0];
}
