/* The body of the kernel for one instruction set; kernel.c includes it once for each.
 *
 * LANES: floats of a vector. PASS: outputs that are computed at a time; PASS / LANES accumulators must fit into the
 * registers with one to spare, and be enough to hide the latency of a multiply-add. NAME(x): x with a suffix. TARGET:
 * attribute of the functions. */

typedef float NAME(vector) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define VECTOR NAME(vector)
#define AT(pointer) (*(VECTOR *)(pointer))
#define CONST_AT(pointer) (*(const VECTOR *)(pointer))

TARGET static int64_t NAME(convolve)(const float *image, int64_t pitch, int64_t n, const int64_t *corner,
                                     const float *kernel, const float *bias, int64_t first, int64_t *start,
                                     float *value, uint16_t *row)
{
    int64_t entry = first;
    for (int64_t p = 0; p < n; p++) {
        const float *pixel = image + corner[p];
        const float *weight = kernel;
        float feature[FEATURES];
        VECTOR sum[FEATURES / LANES];
        for (int a = 0; a < FEATURES / LANES; a++)
            sum[a] = CONST_AT(bias + a * LANES);
        for (int i = 0; i < KERNEL; i++, pixel += pitch)
            for (int j = 0; j < KERNEL; j++, weight += FEATURES)
                for (int a = 0; a < FEATURES / LANES; a++)
                    sum[a] += CONST_AT(weight + a * LANES) * pixel[j];
        for (int a = 0; a < FEATURES / LANES; a++)
            AT(feature + a * LANES) = sum[a];
        /* Without a branch: which features are zero cannot be predicted. What is not a number is kept. */
        start[p] = entry;
        for (int f = 0; f < FEATURES; f++) {
            value[entry] = feature[f];
            row[entry] = (uint16_t)(f * HIDDEN);
            entry += !(feature[f] <= 0);
        }
    }
    start[n] = entry;
    return entry;
}

/* Add the features at one position of the patch to the hits that have any there. */
TARGET static void NAME(add_position)(const float *weights, int64_t n, const pair *pairs, const int64_t *start,
                                      const float *value, const uint16_t *row, float *sums)
{
    for (int first = 0; first < HIDDEN; first += PASS) {
        const float *w = weights + first;
        const char *following = (const char *)(weights + (FEATURES + 1) * HIDDEN) + 64 * n * (first / PASS);
        for (int64_t p = 0; p < n; p++) {
            /* The hardware cannot guess the order of the hits. */
            const pair ahead = pairs[p + AHEAD];
            const char *sum_ahead = (const char *)(sums + HIDDEN * (int64_t)ahead.hit + first);
            for (int line = 0; line < 4 * PASS; line += 64)
                __builtin_prefetch(sum_ahead + line, 1);
            const int64_t entry_ahead = start[ahead.list];
            __builtin_prefetch(value + entry_ahead);
            __builtin_prefetch(value + entry_ahead + 16);
            __builtin_prefetch(row + entry_ahead);
            __builtin_prefetch(following + 64 * p, 0, 2);

            float *sum = sums + HIDDEN * (int64_t)pairs[p].hit + first;
            VECTOR acc[PASS / LANES];
#pragma GCC unroll 16
            for (int a = 0; a < PASS / LANES; a++)
                acc[a] = AT(sum + a * LANES) + CONST_AT(w + FEATURES * HIDDEN + a * LANES);
            const int64_t end = start[pairs[p].list + 1];
            for (int64_t entry = start[pairs[p].list]; entry < end; entry++) {
                const float *wf = w + row[entry];
                const float x = value[entry];
#pragma GCC unroll 16
                for (int a = 0; a < PASS / LANES; a++)
                    acc[a] += CONST_AT(wf + a * LANES) * x;
            }
#pragma GCC unroll 16
            for (int a = 0; a < PASS / LANES; a++)
                AT(sum + a * LANES) = acc[a];
        }
    }
}

TARGET static void NAME(accumulate)(int64_t n, uint64_t *mask, int32_t *list, const int64_t *start, const float *value,
                                    const uint16_t *row, const float *weights, pair *pairs, float *part, float *out)
{
    for (int i = 0; i < POSITIONS; i++, mask += n, list += n) {
        for (int64_t k = 0; k < n * HIDDEN; k++)
            part[k] = 0;
        for (int j = 0; j < POSITIONS; j++, weights += (FEATURES + 1) * HIDDEN) {
            int64_t active = 0;
            for (int64_t hit = 0; hit < n; hit++) {
                const int here = mask[hit] & 1;
                pairs[active].hit = (int32_t)hit;
                pairs[active].list = list[hit];
                active += here;
                list[hit] += here;
                mask[hit] >>= 1;
            }
            for (int ahead = 0; ahead < AHEAD; ahead++)
                pairs[active + ahead] = pairs[0];
            NAME(add_position)(weights, active, pairs, start, value, row, part);
        }
        /* Row by row, because one long sum would lose a digit. */
        for (int64_t k = 0; k < n * HIDDEN; k++)
            out[k] += part[k];
    }
}

#undef VECTOR
#undef AT
#undef CONST_AT
#undef LANES
#undef PASS
#undef NAME
#undef TARGET
