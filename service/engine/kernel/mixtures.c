// Quantiles of equal-weight mixtures of normals: what a predictive interval's ends are.
//
// Each is searched for by Halley's steps in the mixture's distribution function, inside a bracket that it can't leave.
// All sums run over the components in an order that depends on their number alone. `mixtures.py` is the only caller.

#include <stdint.h>

enum {
    LANES = 4,  // components whose terms are added up side by side: part of the bits, so the same on every processor
    STEPS = 200,
};

typedef double d4 __attribute__((vector_size(32), aligned(8)));
typedef int64_t i4 __attribute__((vector_size(32), aligned(8)));

#define INLINE static inline __attribute__((always_inline))
INLINE d4 splat(double x) { return (d4){x, x, x, x}; }
INLINE d4 fma(d4 a, d4 b, d4 c) { return __builtin_elementwise_fma(a, b, c); }
INLINE d4 where(i4 mask, d4 a, d4 b) { return (d4)((mask & (i4)a) | (~mask & (i4)b)); }

// exp(x) for x ≤ 0, down to where it vanishes: Cody and Waite's reduction, then the series.
INLINE d4 exponential(d4 x) {
    const i4 vanishes = x < -750.0;
    x = where(vanishes, splat(-750.0), x);
    const d4 shifted = fma(x, splat(1.4426950408889634), splat(6755399441055744.0)), n = shifted - 6755399441055744.0;
    const d4 r = fma(n, splat(-1.9082149292705877e-10), fma(n, splat(-6.93147180369123816490e-01), x));
    d4 p = splat(1.0 / 479001600.0);
    p = fma(p, r, splat(1.0 / 39916800.0));
    p = fma(p, r, splat(1.0 / 3628800.0));
    p = fma(p, r, splat(1.0 / 362880.0));
    p = fma(p, r, splat(1.0 / 40320.0));
    p = fma(p, r, splat(1.0 / 5040.0));
    p = fma(p, r, splat(1.0 / 720.0));
    p = fma(p, r, splat(1.0 / 120.0));
    p = fma(p, r, splat(1.0 / 24.0));
    p = fma(p, r, splat(1.0 / 6.0));
    p = fma(p, r, splat(0.5));
    p = fma(p, r, splat(1.0));
    p = fma(p, r, splat(1.0));
    // 2ⁿ in two steps, for n below −1022 is no exponent of its own.
    const i4 whole = (i4)shifted - (i4)splat(6755399441055744.0), half = whole >> 1, one = (i4){1023, 1023, 1023, 1023};
    p = p * (d4)((half + one) << 52) * (d4)((whole - half + one) << 52);
    return where(vanishes, splat(0.0), p);
}

// erfc(z) exp(z²) / t with t = 2 / (2 + z), z ≥ 0: a polynomial in 2t − 1, interpolated at Chebyshev's nodes in 60 digits.
static const double ERFC[] = {
    0.51079135262100939412, 0.34358034220694289228, 0.13973604627851994828, 0.018221115750111299,
    -0.010755330963741357187, -0.0032395924467530250533, 0.0015453063119051647733, 0.00041864697777651253915,
    -0.00033153886320636958551, -0.000017178632240152003553, 0.000072244283217299500939, -0.000017103607461026777929,
    -0.000010870120185323198169, 8.1376413452360025466e-6, -5.3278891161734894306e-7, -1.9559959134966221282e-6,
    9.8725425138695052605e-7, 1.5086348591214196877e-7, -3.0702140575508110495e-7, 5.4877197623039762728e-8,
    3.8895488852802231637e-8, -1.3521432351900775864e-8,
};

// erfc(w), to about 1e-13 of itself; `bell` is exp(−w²).
INLINE d4 erfc(d4 w, d4 bell) {
    const i4 negative = w < 0.0;
    const d4 t = 2.0 / (2.0 + where(negative, -w, w)), place = t + t - 1.0;
    enum { LAST = sizeof ERFC / sizeof *ERFC - 1 };
    d4 p = splat(ERFC[LAST]);
    for (int k = LAST - 1; k >= 0; k--) p = fma(p, place, splat(ERFC[k]));
    p *= t * bell;
    return where(negative, 2.0 - p, p);
}

INLINE double sum(d4 v) { return (v[0] + v[1]) + (v[2] + v[3]); }

typedef struct {
    double below, density, slope;  // of twice the distribution function's sum, but for the factor 2/√π of the others
} At;

// At x, of components in `lanes` of centres and rates 1 / (√2 σ).
INLINE At look(const double *centres, const double *rates, int lanes, double x) {
    d4 below = splat(0.0), density = splat(0.0), slope = splat(0.0);
    for (int i = 0; i < lanes; i += LANES) {
        const d4 rate = *(const d4 *)(rates + i), w = (*(const d4 *)(centres + i) - x) * rate;
        const d4 bell = exponential(-w * w);
        below += erfc(w, bell);
        density += bell * rate;
        slope += bell * rate * (w * rate);
    }
    return (At){sum(below), sum(density), sum(slope)};
}

// Where the mixture has `probability` ≤ ½ below, begun at `x`, between `low` and `high`.
static double search(const double *centres, const double *rates, int lanes, double probability, int n, double x,
                     double low, double high, double narrowest) {
    const double target = 2.0 * n * probability;
    double last = high - low;
    x = x < low ? low : x > high ? high : x;
    for (int step = 0; step < STEPS; step++) {
        const At at = look(centres, rates, lanes, x);
        if (at.below < target) low = x;
        else high = x;
        const double newton = (target - at.below) * 0.88622692545275801 / at.density;
        const double bend = 1.0 + newton * at.slope / at.density;
        const double move = bend > 0.5 ? newton / bend : newton;
        const double size = move < 0.0 ? -move : move, next = x + move;
        // NaN fails every comparison, and is halved away too.
        if (!(next >= low && next <= high && size <= 0.5 * last)) {
            last = high - low;
            const double middle = low + 0.5 * last;
            if (middle == x || middle == low || middle == high) return middle;
            x = middle;
            continue;
        }
        last = size;
        if (next == x) return x;
        x = next;
        // The next step would be of the order of this one's third power.
        if (bend > 0.5 && size < 1e-5 * narrowest) return x;
    }
    return x;
}

// For every tail (probability ≤ ½, side, standard normal quantile) and mixture: where it has that much below (side 1)
// or above (−1). deviations [mixtures, n] of the components' centres from the mean, sigma [mixtures, widths] with
// widths n or 1; out [tails, mixtures]; work: room for 2 (n + 3) numbers.
void quantiles(const double *deviations, const double *sigma, int64_t mixtures, int32_t n, int32_t widths,
               const double *tails, int32_t count, double *out, double *work) {
    const int lanes = (n + LANES - 1) / LANES * LANES;
    double *const centres = work, *const rates = work + lanes;
    for (int64_t m = 0; m < mixtures; m++, deviations += n, sigma += widths) {
        double narrowest = sigma[0], widest = sigma[0], square = 0.0, noise = 0.0, least = 0.0, most = 0.0;
        for (int i = 0; i < n; i++) {
            const double s = sigma[widths == 1 ? 0 : i], d = deviations[i];
            narrowest = s < narrowest ? s : narrowest, widest = s > widest ? s : widest;
            least = d < least ? d : least, most = d > most ? d : most;
            square += d * d, noise += s * s;
        }
        const double spread = __builtin_sqrt((square + noise) / n);
        for (int32_t t = 0; t < count; t++) {
            const double probability = tails[3 * t], side = tails[3 * t + 1], z = tails[3 * t + 2];
            for (int i = 0; i < lanes; i++) {
                // Those that are filled in lie beyond everything, and count for nothing.
                centres[i] = i < n ? side * deviations[i] : __builtin_inf();
                rates[i] = i < n ? 0.70710678118654752 / sigma[widths == 1 ? 0 : i] : 1.0;
            }
            const double first = side > 0.0 ? least : -most, end = side > 0.0 ? most : -least;
            out[t * mixtures + m] = side * search(centres, rates, lanes, probability, n, z * spread, first + z * widest,
                                                  end + z * narrowest, narrowest);
        }
    }
}
