/* The inner loops of the sparse engine, for GCC and Clang; compiled.py says how they are called.
 *
 * The features at an active position are a list of those that are not zero: (value, row of the weights). ReLU makes
 * about half of them zero, so that a row of weights that need not be read is worth more than the reuse of rows by
 * several hits at a time, as a matrix product has it. */

#include <stdint.h>

#define FEATURES 48
#define HIDDEN 128
#define KERNEL 5
#define POSITIONS 44
#define AHEAD 2 /* hits that are prefetched */

typedef struct {
    int32_t hit;
    int32_t list;
} pair;

#define LANES 4
#define PASS 32
#define NAME(x) x##_plain
#define TARGET
#include "kernel_body.h"

#ifdef __x86_64__

#define LANES 8
#define PASS 64
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#include "kernel_body.h"

#define LANES 16
#define PASS 128
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,fma")))
#include "kernel_body.h"

#define CHOOSE(level, function) \
    ((level) >= 2 ? function##_avx512 : (level) == 1 ? function##_avx2 : function##_plain)

/* The best level of this processor: 0 plain, 1 AVX2 and FMA, 2 AVX-512. */
int protosonic_level(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    return __builtin_cpu_supports("avx512f") ? 2 : 1;
}

#else

#define CHOOSE(level, function) ((void)(level), function##_plain)

int protosonic_level(void)
{
    return 0;
}

#endif

/* Convolve at n positions and list the features that are not zero.
 *
 * image: pixels, `pitch` apart from row to row. corner [n]: the first pixel that each position sees. kernel
 * [5, 5, 48], bias [48]. first: entry to start with. start [n + 1]: first entry of each position, and the end. value,
 * row: the entries, up to 48 a position. Returns the end. */
int64_t protosonic_convolve(int level, const float *image, int64_t pitch, int64_t n, const int64_t *corner,
                            const float *kernel, const float *bias, int64_t first, int64_t *start, float *value,
                            uint16_t *row)
{
    return CHOOSE(level, convolve)(image, pitch, n, corner, kernel, bias, first, start, value, row);
}

/* Add to the sums of the first dense layer what the active positions contribute.
 *
 * mask [44, n]: bit j of [i, hit] says whether position (i, j) of the patch is active. list [44, n]: the list of the
 * first active position of the row; those of the others follow. Both are used up. start, value, row: the lists.
 * weights [44, 44, 49, 128]: row 48 is what an active position contributes without any feature. pairs [n + 2] and
 * part [n, 128]: scratch. out [n, 128]: the sums. */
void protosonic_accumulate(int level, int64_t n, uint64_t *mask, int32_t *list, const int64_t *start,
                           const float *value, const uint16_t *row, const float *weights, void *pairs, float *part,
                           float *out)
{
    CHOOSE(level, accumulate)(n, mask, list, start, value, row, weights, pairs, part, out);
}
