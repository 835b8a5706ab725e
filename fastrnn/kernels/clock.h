/* The time on a clock that nobody sets. */
#ifndef FASTRNN_CLOCK_H
#define FASTRNN_CLOCK_H
#include <time.h>

static inline long long nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

#endif
