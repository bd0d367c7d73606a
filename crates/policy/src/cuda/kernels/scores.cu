// Log-probs, entropies and draws from logits, and the gradient of the first two. Block x is a row of logits.

// A maximum, the sum of e^(v - maximum), and the sum of the same terms times their exponents.
struct Sums {
    float largest, sum, moment;
};

DEVICE void join(Sums &a, float largest, float sum, float moment) {
    if (largest == -INFINITY) return;
    float most = fmaxf(a.largest, largest);
    float mine = a.largest - most, other = largest - most;
    // -inf times 0 is no number.
    if (a.largest == -INFINITY) {
        a.sum = a.moment = 0;
        mine = -100;
    }
    float kept = exponential(mine), share = exponential(other);
    a.moment = kept * (a.moment + mine * a.sum) + share * (moment + other * sum);
    a.sum = kept * a.sum + share * sum;
    a.largest = most;
}

// Sums over a row of scaled logits, the same for every thread. NaN anywhere makes the sum NaN.
DEVICE Sums row_sums(const float *logits, int vocab, float inverse_temperature) {
    __shared__ float largest[32], sums[32], moments[32];
    Sums own = {-INFINITY, 0, 0};
    float broken = 0;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        float logit = logits[i] * inverse_temperature;
        broken += logit - logit;
        join(own, logit, 1, 0);
    }
    for (int step = 16; step > 0; step /= 2) {
        float most = __shfl_xor_sync(WHOLE_WARP, own.largest, step);
        float sum = __shfl_xor_sync(WHOLE_WARP, own.sum, step);
        float moment = __shfl_xor_sync(WHOLE_WARP, own.moment, step);
        join(own, most, sum, moment);
    }
    broken = block_sum(broken);
    if (lane() == 0) {
        largest[warp()] = own.largest;
        sums[warp()] = own.sum;
        moments[warp()] = own.moment;
    }
    __syncthreads();
    Sums all = {largest[0], sums[0], moments[0]};
    for (unsigned w = 1; w < blockDim.x / 32; w++) join(all, largest[w], sums[w], moments[w]);
    all.sum += broken;
    __syncthreads();
    return all;
}

// Slots firsts[row]..firsts[row + 1] are the row's targets; tokens, places by those: the token that is
// scored, and where its log-prob and entropy go.
KERNEL(1024, score_rows)(const float *logits, int vocab, float inverse_temperature, const int *firsts,
                         const int *tokens, const int *places, float *log_sums, float *row_entropies, float *logprobs,
                         float *entropies) {
    logits += (size_t)blockIdx.x * vocab;
    Sums all = row_sums(logits, vocab, inverse_temperature);
    float log_sum = all.largest + logf(all.sum), entropy = logf(all.sum) - all.moment / all.sum;
    for (int i = firsts[blockIdx.x] + threadIdx.x; i < firsts[blockIdx.x + 1]; i += blockDim.x) {
        logprobs[places[i]] = logits[tokens[i]] * inverse_temperature - log_sum;
        entropies[places[i]] = entropy;
    }
    if (threadIdx.x == 0) {
        log_sums[blockIdx.x] = log_sum;
        row_entropies[blockIdx.x] = entropy;
    }
}
EXPORT(score_rows)

DEVICE float logit_slope(float logit, float log_sum, float entropy, float total, float slope) {
    float logprob = fmaxf(logit - log_sum, -100.0f);
    return exponential(logprob) * (-total - slope * (logprob + entropy));
}

// The gradient of sum over the row's slots of dlogprob * log-prob + dentropy * entropy by its logits.
KERNEL(1024, logits_gradient)(const float *logits, int vocab, float inverse_temperature, const int *firsts,
                              const int *tokens, const int *places, const float *log_sums, const float *row_entropies,
                              const float *dlogprobs, const float *dentropies, number *dlogits) {
    logits += (size_t)blockIdx.x * vocab;
    dlogits += (size_t)blockIdx.x * vocab;
    float log_sum = log_sums[blockIdx.x], entropy = row_entropies[blockIdx.x], total = 0, slope = 0;
    int first = firsts[blockIdx.x], end = firsts[blockIdx.x + 1];
    for (int i = first; i < end; i++) {
        total += dlogprobs[places[i]];
        slope += dentropies[places[i]];
    }
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        float d = logit_slope(logits[i] * inverse_temperature, log_sum, entropy, total, slope);
        narrow(d * inverse_temperature, dlogits[i]);
    }
    __syncthreads();
    for (int i = first + threadIdx.x; i < end; i += blockDim.x) {
        float own = 0;
        bool is_first = true;
        for (int j = first; j < end; j++)
            if (tokens[j] == tokens[i]) {
                own += dlogprobs[places[j]];
                is_first = is_first && j >= i;
            }
        float d = logit_slope(logits[tokens[i]] * inverse_temperature, log_sum, entropy, total, slope) + own;
        if (is_first) narrow(d * inverse_temperature, dlogits[tokens[i]]);
    }
}
EXPORT(logits_gradient)

// Logits in one section of a row, whose sums a draw looks through first.
const int SECTION = 1024;
// Sections of the largest vocabulary.
const int SECTIONS = 512;

// Draws the token at which the cumulative probability exceeds uniforms[row], in the order of token ids; one
// whose uniform is negative takes the likeliest (of equals the lowest id). Its log-prob is NaN if a logit is
// not finite.
KERNEL(1024, draw)(const float *logits, int vocab, const float *inverse_temperatures, const float *uniforms,
                   int *tokens, float *logprobs) {
    __shared__ float notes[SECTIONS];
    __shared__ int chosen;
    logits += (size_t)blockIdx.x * vocab;
    float inverse_temperature = inverse_temperatures[blockIdx.x], uniform = uniforms[blockIdx.x];
    Sums all = row_sums(logits, vocab, inverse_temperature);
    float log_sum = all.largest + logf(all.sum);
    int sections = (vocab + SECTION - 1) / SECTION;
    if (threadIdx.x == 0) chosen = vocab;
    for (int section = warp(); section < sections; section += blockDim.x / 32) {
        float sum = 0;
        int end = (section + 1) * SECTION < vocab ? (section + 1) * SECTION : vocab;
        int best = vocab;
        for (int i = section * SECTION + lane(); i < end; i += 32) {
            float logit = logits[i] * inverse_temperature;
            sum += exponential(logit - all.largest);
            if (logit == all.largest && i < best) best = i;
        }
        sum = warp_sum(sum);
        // Ids are below 2^24, so floats hold them.
        best = (int)-warp_maximum(-(float)best);
        if (lane() == 0) notes[section] = uniform < 0 ? (float)best : sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        if (uniform < 0) {
            for (int section = 0; section < sections; section++)
                if (notes[section] < chosen) chosen = (int)notes[section];
        } else {
            float whole = 0, reached = 0;
            for (int section = 0; section < sections; section++) whole += notes[section];
            float target = uniform * whole;
            int last = 0, section = 0;
            for (; section < sections; section++) {
                if (notes[section] > 0) last = section;
                if (reached + notes[section] > target) break;
                reached += notes[section];
            }
            if (section == sections) {
                section = last;
                reached = whole - notes[last];
            }
            int end = (section + 1) * SECTION < vocab ? (section + 1) * SECTION : vocab;
            for (int i = section * SECTION; i < end; i++) {
                float weight = exponential(logits[i] * inverse_temperature - all.largest);
                if (weight > 0) {
                    reached += weight;
                    chosen = i;
                    if (reached > target) break;
                }
            }
        }
        // Only numbers that are none leave nothing to choose.
        if (chosen >= vocab) chosen = 0;
        tokens[blockIdx.x] = chosen;
        logprobs[blockIdx.x] = logits[chosen] * inverse_temperature - log_sum;
    }
}
EXPORT(draw)
