// Committees of a network, from seeds to outputs, for a whole company of queries in one call.
//
// Every output is the sum over a product's inputs in their order, each term one fused multiply-add. So its bits depend
// on nothing but row, sample and network: not on what is evaluated beside it, nor in how many pieces, nor on the
// processor. A term whose input is zero, as it was dropped or was negative before a ReLU, adds nothing and may be left
// out. Data of a block stay in the first- and second-level caches. No libraries, no allocation, no state;
// `evaluation.py` is the only caller and answers for sizes.

#include <stdint.h>

#ifndef VECTOR
#error "VECTOR is how many floats are computed at once, and what widths are filled up to a multiple of: see binaries.py"
#endif

enum {
    STRIP = 6,         // rows whose sums are held in registers: 6 × 2 vectors, and what they are made of
    BLOCK = 60,        // (sample, row) pairs that go through the network together; a multiple of STRIP
    LISTED = 64,       // inputs from which on it pays to look which of them ReLU made zero
    BLOCK_LANES = 16,  // 16-bit random numbers in a block of the generator
};

#define BY_ROW_FROM 0.65f  // of the units kept at the first site

enum Kind { PRODUCT, NORMALISE, DROP, KEEP, ADD_KEPT, RELU, LEAKY_RELU, ELU, GELU, SILU, TANH };

typedef struct {
    int32_t kind, inputs, outputs;  // filled up; the same but for a product
    int32_t units;                  // of a product: inputs; of a norm: units. Not filled up
    int32_t first_lane, threshold;  // of a site: lanes below the threshold, counted from the first, mean "dropped"
    float scale;                    // of a site: what kept units are multiplied by
    const float *weight;            // of a product: panels two vectors wide, at last one of a single vector if it is left
    const float *bias;
} Step;

typedef struct {
    const Step *steps;
    int32_t shared, count;            // steps that all samples share, and all of them
    int32_t inputs, outputs, widest;  // numbers of a row, of an answer, and of the widest x
    int32_t generator_blocks, kept;   // of a sample; residual blocks that are open at once
} Network;

// Some samples × rows of a query. Pair (sample, row) has its outputs at first_pair + sample · stride + row; its masks
// are those of sample number first_sample + sample · step.
typedef struct {
    uint64_t seed, first_sample;
    int64_t first_pair, first_row;
    int32_t samples, rows, stride, step;
} Part;

// Pairs that go through a product together, and how many of its inputs: the first ones, or those that are named.
typedef struct {
    int first, pairs, units;
    const int32_t *indices;
} Run;

// What is in hand: pairs of x, those of a sample following one another or, `by_row`, those of a row.
typedef struct {
    float *x, *spare, *kept;
    int64_t size;  // of each of these buffers, and of each that is kept
    int pairs, group, by_row, open, rectified;
    const uint16_t *lanes;  // of the first sample; null where nothing is dropped
    int lanes_a_sample;
    float share;  // of x that was not dropped just now
    int32_t *indices;
} Block;

typedef float Floats __attribute__((ext_vector_type(VECTOR), aligned(4)));
typedef int32_t Ints __attribute__((ext_vector_type(VECTOR), aligned(4)));
typedef uint16_t Lanes __attribute__((ext_vector_type(VECTOR), aligned(2)));
typedef _Bool Bits __attribute__((ext_vector_type(VECTOR)));

#define INLINE static inline __attribute__((always_inline))
INLINE Floats splat(float x) { return (Floats)x; }
INLINE Floats load(const float *x) { return *(const Floats *)x; }
INLINE void store(float *x, Floats v) { *(Floats *)x = v; }
INLINE Floats fma(Floats a, Floats b, Floats c) { return __builtin_elementwise_fma(a, b, c); }
INLINE Floats where(Ints mask, Floats a, Floats b) { return (Floats)((mask & (Ints)a) | (~mask & (Ints)b)); }

// Random numbers ------------------------------------------------------------------------------------------------------

// Philox4x64-10 (Salmon et al. 2011) as NumPy runs it: the counter is raised before a block is made.
INLINE void philox(uint64_t key, unsigned __int128 counter, uint64_t out[4]) {
    uint64_t a = (uint64_t)counter, b = (uint64_t)(counter >> 64), c = 0, d = 0, other_key = 0;
    for (int round = 0; round < 10; round++) {
        const unsigned __int128 left = (unsigned __int128)0xD2E7470EE14C6C93u * a;
        const unsigned __int128 right = (unsigned __int128)0xCA5A826395121157u * c;
        a = (uint64_t)(right >> 64) ^ b ^ key;
        b = (uint64_t)right;
        c = (uint64_t)(left >> 64) ^ d ^ other_key;
        d = (uint64_t)left;
        key += 0x9E3779B97F4A7C15u;
        other_key += 0xBB67AE8584CAA73Bu;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

// The lanes of successive samples, `blocks` generator blocks each; see masks.py for the stream.
void draw(uint64_t seed, uint64_t first_sample, int32_t samples, int32_t blocks, uint64_t *words) {
    unsigned __int128 counter = (unsigned __int128)first_sample * (unsigned)blocks;
    const int64_t count = (int64_t)samples * blocks;
    for (int64_t block = 0; block < count; block++) philox(seed, ++counter, words + 4 * block);
}

// Products ------------------------------------------------------------------------------------------------------------

// y [rows, VECTOR · vectors] = x · weight + bias, over `units` inputs: the first ones, or those that `indices` name.
INLINE void strip(int rows, int vectors, const Step *s, int units, const int32_t *indices, const float *x,
                  const float *weight, const float *bias, float *y) {
    Floats sums[STRIP][2];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sums[r][v] = load(bias + VECTOR * v);
    for (int i = 0; i < units; i++) {
        const int64_t k = indices ? indices[i] : i;
        Floats w[2];
        for (int v = 0; v < vectors; v++) w[v] = load(weight + (vectors * k + v) * VECTOR);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) sums[r][v] = fma(splat(x[r * s->inputs + k]), w[v], sums[r][v]);
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) store(y + r * s->outputs + VECTOR * v, sums[r][v]);
}

// Pairs that follow one another, through one panel of columns.
INLINE void sums(int vectors, const Step *s, const Run *run, const int32_t *indices, const float *x,
                  const float *weight, int column, float *y) {
    const float *const bias = s->bias + column;
    const int units = run->units;
    int pairs = run->pairs;
    x += run->first * s->inputs, y += run->first * s->outputs + column;
    for (; pairs >= STRIP; pairs -= STRIP, x += STRIP * s->inputs, y += STRIP * s->outputs)
        strip(STRIP, vectors, s, units, indices, x, weight, bias, y);
    switch (pairs) {
        case 1: strip(1, vectors, s, units, indices, x, weight, bias, y); break;
        case 2: strip(2, vectors, s, units, indices, x, weight, bias, y); break;
        case 3: strip(3, vectors, s, units, indices, x, weight, bias, y); break;
        case 4: strip(4, vectors, s, units, indices, x, weight, bias, y); break;
        case 5: strip(5, vectors, s, units, indices, x, weight, bias, y); break;
    }
}

INLINE void panel(int narrow, const Step *s, const Run *run, const int32_t *indices, const float *x,
                  const float *weight, int column, float *y) {
    if (narrow)
        sums(1, s, run, indices, x, weight, column, y);
    else
        sums(2, s, run, indices, x, weight, column, y);
}

// Names the inputs that are not zero in all pairs of a run, if they are few enough for it to pay.
INLINE void look(Run *run, const Step *s, const float *x, int32_t *indices) {
    int count = 0;
    for (int u = 0; u < s->units; u += VECTOR) {
        Ints any = {0};
        for (int p = run->first; p < run->first + run->pairs; p++) any |= (Ints)load(x + p * s->inputs + u);
        const Bits found = __builtin_convertvector((any & 0x7fffffff) != 0, Bits);  // a negative zero is one
        unsigned bits = 0;
        __builtin_memcpy(&bits, &found, VECTOR / 8);
        if (s->units - u < VECTOR) bits &= (1u << (s->units - u)) - 1;
        for (int j = 0; j < VECTOR; j++) {
            indices[count] = u + j;
            count += bits >> j & 1;
        }
    }
    if (count < s->units - s->units / 16) run->units = count, run->indices = indices;
}

// One product, in runs of all pairs, of whatever strips come, or of one sample or some samples of a row: where zeros are
// worth looking for, and where such runs leave out more than the raggedness of their last strips costs.
static void product(const Step *s, Block *b) {
    Run runs[BLOCK];
    int count = 0;
    const int in_strips = (b->group + STRIP - 1) / STRIP * STRIP;
    const int apart = b->by_row ? b->group >= STRIP / 2 : b->share * in_strips < b->group;
    const int look_for = apart || (b->rectified && s->units >= LISTED), span = apart ? b->group : b->pairs;
    const int most = !look_for || (apart && !b->by_row) ? span : STRIP;
    for (int group = 0; group < b->pairs; group += span)
        for (int p = 0; p < span; p += most, count++) {
            runs[count] = (Run){group + p, span - p < most ? span - p : most, s->units, 0};
            if (look_for) look(runs + count, s, b->x, b->indices + (int64_t)count * (s->inputs + 1));
        }
    const float *weight = s->weight;
    for (int column = 0; column < s->outputs; column += 2 * VECTOR, weight += 2 * VECTOR * s->units) {
        const int narrow = column + 2 * VECTOR > s->outputs;
        for (const Run *run = runs; run < runs + count; run++)
            if (run->indices)
                panel(narrow, s, run, run->indices, b->x, weight, column, b->spare);
            else
                panel(narrow, s, run, 0, b->x, weight, column, b->spare);
    }
    float *const x = b->x;
    b->x = b->spare, b->spare = x;
}

// Activations ---------------------------------------------------------------------------------------------------------

// scale = 2ⁿ and q with exp(x) = 2ⁿ (1 + q): Cody and Waite's reduction, Moshier's polynomial (Cephes expf).
INLINE Floats exponential(Floats x, Floats *scale) {
    x = where(x > 88.0f, splat(88.0f), where(x < -87.0f, splat(-87.0f), x));
    const Floats n = fma(x, splat(1.44269504f), splat(12582912.0f)) - 12582912.0f;
    const Floats r = fma(n, splat(2.12194440e-4f), fma(n, splat(-0.693359375f), x));
    Floats p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    *scale = (Floats)((__builtin_convertvector(n, Ints) + 127) << 23);
    return fma(p * r, r, r);
}

INLINE Floats elu(Floats x) {
    Floats scale, q = exponential(x, &scale);
    return where(x > 0.0f, x, fma(scale, q, scale - 1.0f));
}

INLINE Floats silu(Floats x) {
    Floats scale, q = exponential(-x, &scale);
    return x / (fma(scale, q, scale) + 1.0f);
}

// Near 0 by an odd polynomial (Cephes tanhf), where 1 − 2 / (exp(2x) + 1) would lose its digits.
INLINE Floats hyperbolic_tangent(Floats x) {
    Floats scale, q = exponential(x + x, &scale), z = x * x, p = splat(-5.70498872745e-3f);
    p = fma(p, z, splat(2.06390887954e-2f));
    p = fma(p, z, splat(-5.37397155531e-2f));
    p = fma(p, z, splat(1.33314422036e-1f));
    p = fma(p, z, splat(-3.33332819422e-1f));
    return where(z < 0.390625f, fma(p * z, x, x), 1.0f - 2.0f / (fma(scale, q, scale) + 1.0f));
}

// x Φ(x), the tail of the normal distribution by Abramowitz and Stegun 7.1.26.
INLINE Floats gelu(Floats x) {
    const Floats a = where(x < 0.0f, -x, x) * 0.70710678f, t = 1.0f / fma(a, splat(0.3275911f), splat(1.0f));
    Floats scale, q = exponential(-a * a, &scale), p = splat(1.061405429f);
    p = fma(p, t, splat(-1.453152027f));
    p = fma(p, t, splat(1.421413741f));
    p = fma(p, t, splat(-0.284496736f));
    p = fma(p, t, splat(0.254829592f));
    const Floats tail = 0.5f * p * t * fma(scale, q, scale);
    return x * where(x < 0.0f, tail, 1.0f - tail);
}

// Comparisons are such that NaN stays NaN: an overflow must be seen.
static void activate(int kind, float *x, const float *end) {
    switch (kind) {
        case RELU:
            for (; x < end; x += VECTOR) store(x, where(load(x) < 0.0f, splat(0.0f), load(x)));
            break;
        case LEAKY_RELU:
            for (; x < end; x += VECTOR) store(x, where(load(x) < 0.0f, load(x) * 0.01f, load(x)));
            break;
        case ELU:
            for (; x < end; x += VECTOR) store(x, elu(load(x)));
            break;
        case GELU:
            for (; x < end; x += VECTOR) store(x, gelu(load(x)));
            break;
        case SILU:
            for (; x < end; x += VECTOR) store(x, silu(load(x)));
            break;
        case TANH:
            for (; x < end; x += VECTOR) store(x, hyperbolic_tangent(load(x)));
            break;
    }
}

// The other steps -----------------------------------------------------------------------------------------------------

// One row times its mask. Beyond the site's units x is 0, whatever the lanes there say.
INLINE void drop(const Step *s, const uint16_t *lanes, const float *x, float *y) {
    for (int u = 0; u < s->outputs; u += VECTOR) {
        const Ints drawn = __builtin_convertvector(*(const Lanes *)(lanes + u), Ints);
        store(y + u, where(drawn >= s->threshold, load(x + u) * s->scale, splat(0.0f)));
    }
}

static void normalise(const Step *s, const Block *b) {
    for (int p = 0; p < b->pairs; p++) {
        float *const x = b->x + p * s->outputs;
        double sum = 0.0, squares = 0.0;
        for (int u = 0; u < s->units; u++) sum += x[u];
        const double mean = sum / s->units;
        for (int u = 0; u < s->units; u++) squares += (x[u] - mean) * (x[u] - mean);
        const float factor = (float)(1.0 / __builtin_sqrt(squares / s->units + 1e-5));
        for (int u = 0; u < s->units; u++)
            x[u] = __builtin_fmaf((x[u] - (float)mean) * factor, s->weight[u], s->bias[u]);
    }
}

INLINE void copy(const float *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; i += VECTOR) store(to + i, load(from + i));
}

// How much of a site's units is kept.
INLINE float share(const Step *s) { return 1.0f - s->threshold / 65536.0f; }

// Takes what is in hand from one step to another.
static void through(const Step *s, const Step *end, Block *b) {
    for (; s < end; s++) {
        const int64_t count = (int64_t)b->pairs * s->outputs;
        switch (s->kind) {
            case PRODUCT: product(s, b); break;
            case NORMALISE: normalise(s, b); break;
            case DROP:
                if (!b->lanes || !s->threshold) continue;
                for (int p = 0; p < b->pairs; p++) {
                    const int sample = b->by_row ? p % b->group : p / b->group;
                    const uint16_t *lanes = b->lanes + sample * b->lanes_a_sample + s->first_lane;
                    drop(s, lanes, b->x + p * s->outputs, b->x + p * s->outputs);
                }
                break;
            case KEEP: copy(b->x, b->kept + b->open++ * b->size, count); break;
            case ADD_KEPT: {
                const float *const kept = b->kept + --b->open * b->size;
                for (int64_t i = 0; i < count; i += VECTOR) store(b->x + i, load(b->x + i) + load(kept + i));
                break;
            }
            default: activate(s->kind, b->x, b->x + count);
        }
        if (s->kind != KEEP) b->share = s->kind == DROP ? share(s) : 1.0f;
    }
}

// Queries -------------------------------------------------------------------------------------------------------------

// Bytes that `evaluate` works in.
int64_t room(const Network *net) {
    const int64_t buffers = (int64_t)(3 + 2 * net->kept) * BLOCK * net->widest * sizeof(float);
    const int64_t words = (int64_t)(BLOCK * net->generator_blocks + 2) * BLOCK_LANES * sizeof(uint16_t);
    return buffers + words + (int64_t)BLOCK * (net->widest + 1) * sizeof(int32_t);
}

static int has_relu(const Network *net) {
    for (const Step *s = net->steps; s < net->steps + net->count; s++)
        if (s->kind == RELU) return 1;
    return 0;
}

// Whether strips are better of one row: what ReLU makes zero differs little among the samples of a row, and much among
// rows; what is dropped is the same in all rows of a sample, but little of it.
static int better_by_row(const Network *net, const Part *part) {
    const int many = part->rows > 1 && part->samples >= STRIP && net->widest >= LISTED;
    return many && share(net->steps + net->shared) >= BY_ROW_FROM;
}

// Out [pairs, outputs] from rows [rows, inputs]: the parts one after another, each a block of rows and samples a time.
void evaluate(const Network *net, const Part *parts, int32_t count, const float *rows, float *out, float *work) {
    const int64_t size = (int64_t)BLOCK * net->widest;
    float *const first = work, *const second = first + size, *const shared = second + size, *const kept = shared + size;
    float *const shared_kept = kept + net->kept * size;
    uint64_t *const words = (uint64_t *)(shared_kept + net->kept * size);
    int32_t *const indices = (int32_t *)(words + (BLOCK * net->generator_blocks + 2) * BLOCK_LANES / 4);
    const Step *const begin = net->steps, *const cut = begin + net->shared, *const end = begin + net->count;
    const int width = begin->inputs, last = end[-1].outputs, answers = net->outputs, rectified = has_relu(net);
    for (const Part *part = parts; part < parts + count; part++) {
        const int by_row = cut != end && rectified && better_by_row(net, part);
        const int most_rows = by_row ? BLOCK / STRIP : BLOCK;
        for (int row = 0; row < part->rows; row += most_rows) {
            const int some = part->rows - row < most_rows ? part->rows - row : most_rows;
            float *const to = out + (part->first_pair + row) * answers;
            for (int r = 0; r < some; r++)
                for (int u = 0; u < width; u++)
                    first[r * width + u] = u < net->inputs ? rows[(part->first_row + row + r) * net->inputs + u] : 0.0f;
            Block b = {first, second, shared_kept, size, some, some, 0, 0, rectified, 0, 0, 1.0f, indices};
            through(begin, cut, &b);
            if (cut == end) {
                for (int r = 0; r < some; r++)
                    for (int u = 0; u < answers; u++) to[(int64_t)r * answers + u] = b.x[r * last + u];
                continue;
            }
            const int w = cut->outputs, open = b.open, most = by_row ? BLOCK / some / STRIP * STRIP : BLOCK / some;
            copy(b.x, shared, (int64_t)some * w);
            for (int sample = 0; sample < part->samples; sample += most) {
                const int samples = part->samples - sample < most ? part->samples - sample : most;
                const int next_sample = by_row ? 1 : some, next_row = by_row ? samples : 1;
                for (int s = 0; s < samples; s++)
                    draw(part->seed, part->first_sample + (uint64_t)(sample + s) * (unsigned)part->step, 1,
                         net->generator_blocks, words + (int64_t)s * net->generator_blocks * (BLOCK_LANES / 4));
                b = (Block){first, second, kept, size, samples * some, by_row ? samples : some, by_row, open, rectified,
                            (const uint16_t *)words, net->generator_blocks * BLOCK_LANES, share(cut), indices};
                for (int s = 0; s < samples; s++)
                    for (int r = 0; r < some; r++) {
                        const int64_t p = s * next_sample + r * next_row;
                        drop(cut, b.lanes + s * b.lanes_a_sample + cut->first_lane, shared + r * w, first + p * w);
                        for (int k = 0; k < open; k++)
                            copy(shared_kept + k * size + r * w, kept + k * size + p * w, w);
                    }
                through(cut + 1, end, &b);
                for (int s = 0; s < samples; s++)
                    for (int r = 0; r < some; r++) {
                        const float *const y = b.x + (s * next_sample + r * next_row) * last;
                        float *const told = to + ((int64_t)(sample + s) * part->stride + r) * answers;
                        for (int u = 0; u < answers; u++) told[u] = y[u];
                    }
            }
        }
    }
}
