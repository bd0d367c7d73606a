// Embedding, RMS norm, bias, head norm, rotation, SwiGLU, and sums over rows. Hidden states and their
// gradients are float; what goes into products is `number`. A row is one block unless it says otherwise.

// hidden[row] = table[token]: from the table of numbers, or from one of floats where there is one.
KERNEL(256, embed)(const int *tokens, const number *table, const float *floats, int width, float *hidden) {
    size_t from = (size_t)tokens[blockIdx.x] * width, to = (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        hidden[to + i] = floats ? floats[from + i] : widen(table[from + i]);
}
EXPORT(embed)

// y = x / sqrt(mean(x^2) + epsilon) * weight.
KERNEL(256, rms_norm)(const float *x, const float *weight, float epsilon, int width, number *y) {
    x += (size_t)blockIdx.x * width;
    y += (size_t)blockIdx.x * width;
    float square = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) square += x[i] * x[i];
    float inverse = 1.0f / sqrtf(block_sum(square) / width + epsilon);
    for (int i = threadIdx.x; i < width; i += blockDim.x) narrow(x[i] * inverse * weight[i], y[i]);
}
EXPORT(rms_norm)

// Adds the gradient of rms_norm to dx, and keeps 1 / sqrt(...) of each row for the weight's.
KERNEL(256, rms_norm_backward)(const float *x, const float *weight, float epsilon, int width, const number *dy,
                               float *dx, float *inverses) {
    x += (size_t)blockIdx.x * width;
    dy += (size_t)blockIdx.x * width;
    dx += (size_t)blockIdx.x * width;
    float square = 0, along = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        square += x[i] * x[i];
        along += widen(dy[i]) * weight[i] * x[i];
    }
    square = block_sum(square);
    along = block_sum(along);
    float inverse = 1.0f / sqrtf(square / width + epsilon);
    float slope = along * inverse * inverse * inverse / width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) dx[i] += widen(dy[i]) * weight[i] * inverse - x[i] * slope;
    if (threadIdx.x == 0) inverses[blockIdx.x] = inverse;
}
EXPORT(rms_norm_backward)

// Rows whose share of a sum over rows is one part: part of the order of the sum.
const int ROWS_PER_PART = 128;

// parts[block y][column] = sum over its rows of dy * x * inverse; without x, of dy. 8 x 32 threads,
// 32 columns a block.
KERNEL(256, sum_rows)(const number *dy, const float *x, const float *inverses, int rows, int width, float *parts) {
    __shared__ float sums[8][33];
    int column = blockIdx.x * 32 + lane(), first = blockIdx.y * ROWS_PER_PART;
    int end = first + ROWS_PER_PART < rows ? first + ROWS_PER_PART : rows;
    float sum = 0;
    if (column < width)
        for (int row = first + warp(); row < end; row += 8) {
            size_t at = (size_t)row * width + column;
            sum += x ? widen(dy[at]) * x[at] * inverses[row] : widen(dy[at]);
        }
    sums[warp()][lane()] = sum;
    __syncthreads();
    if (warp() == 0 && column < width) {
        for (int i = 1; i < 8; i++) sum += sums[i][lane()];
        parts[(size_t)blockIdx.y * width + column] = sum;
    }
}
EXPORT(sum_rows)

// out[column] += sum of parts[.][repeat * width + column] over all parts and repeats, in order. One thread a
// column.
KERNEL(256, add_parts)(const float *parts, int count, int stride, int repeats, int width, float *out) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0;
    for (int i = 0; i < count; i++)
        for (int repeat = 0; repeat < repeats; repeat++) sum += parts[(size_t)i * stride + repeat * width + column];
    out[column] += sum;
}
EXPORT(add_parts)

// Positions in a page of keys and values.
const int PAGE = 32;

// Where one head's keys of a page begin; its values follow PAGE * HEAD further on.
DEVICE number *page_head(address page, int layer, int kv_heads, int head) {
    return (number *)page + ((size_t)layer * kv_heads + head) * 2 * PAGE * HEAD;
}

// A row of q, k and v as attention sees them: biased, head-normed, rotated to its position. What q and k were
// before their norm goes to `raw`; keys and values go into pages too, if there are any: row i's page table
// begins at pages[tables[i]], its place is places[i]. A warp takes a head.
KERNEL(128, shape_qkv)(const float *product, const float *bias_q, const float *bias_k, const float *bias_v,
                       const float *norm_q, const float *norm_k, float epsilon, const float *cosines,
                       const float *sines, const int *positions, int heads, int kv_heads, number *qkv, number *raw,
                       const address *pages, const int *tables, const int *places, int layer) {
    const int half = HEAD / 2;
    int row = blockIdx.x, all = heads + 2 * kv_heads, rotated = heads + kv_heads;
    size_t turn = (size_t)positions[row] * half;
    for (int head = warp(); head < all; head += blockDim.x / 32) {
        const float *x = product + ((size_t)row * all + head) * HEAD;
        const float *bias = 0, *norm = 0;
        if (bias_q && head < heads) bias = bias_q + head * HEAD;
        if (bias_q && head >= heads && head < rotated) bias = bias_k + (head - heads) * HEAD;
        if (bias_q && head >= rotated) bias = bias_v + (head - rotated) * HEAD;
        if (norm_q && head < rotated) norm = head < heads ? norm_q : norm_k;
        float inverse = 1;
        if (norm) {
            float square = 0;
            for (int i = lane(); i < HEAD; i += 32) {
                float value = x[i] + (bias ? bias[i] : 0.0f);
                square += value * value;
            }
            inverse = 1.0f / sqrtf(warp_sum(square) / HEAD + epsilon);
        }
        number *y = qkv + ((size_t)row * all + head) * HEAD;
        number *page = 0;
        if (pages && head >= heads) {
            int kv_head = (head - heads) % kv_heads, place = places[row];
            page = page_head(pages[tables[row] + place / PAGE], layer, kv_heads, kv_head);
            page += ((head >= rotated ? PAGE : 0) + place % PAGE) * HEAD;
        }
        for (int i = lane(); i < half; i += 32) {
            float low = x[i] + (bias ? bias[i] : 0.0f), high = x[i + half] + (bias ? bias[i + half] : 0.0f);
            if (norm) {
                number *before = raw ? raw + ((size_t)row * rotated + head) * HEAD : 0;
                if (before) {
                    narrow(low, before[i]);
                    narrow(high, before[i + half]);
                }
                low = low * inverse * norm[i];
                high = high * inverse * norm[i + half];
            }
            if (head < rotated) {
                float c = cosines[turn + i], s = sines[turn + i];
                float turned = low * c - high * s;
                high = high * c + low * s;
                low = turned;
            }
            narrow(low, y[i]);
            narrow(high, y[i + half]);
            if (page) {
                narrow(low, page[i]);
                narrow(high, page[i + half]);
            }
        }
    }
}
EXPORT(shape_qkv)

// The gradient of shape_qkv: from dqkv as attention left it to that of the projections' outputs. With head
// norms, slopes (`[rows, heads + kv_heads, HEAD]`) becomes each element's share of the norm weight's gradient.
KERNEL(128, unshape_qkv)(const float *dqkv, const number *raw, const float *norm_q, const float *norm_k, float epsilon,
                         const float *cosines, const float *sines, const int *positions, int heads, int kv_heads,
                         number *out, number *slopes) {
    const int half = HEAD / 2, each = (half + 31) / 32;
    int row = blockIdx.x, all = heads + 2 * kv_heads, rotated = heads + kv_heads;
    size_t turn = (size_t)positions[row] * half;
    for (int head = warp(); head < all; head += blockDim.x / 32) {
        size_t at = ((size_t)row * all + head) * HEAD;
        size_t at_raw = ((size_t)row * rotated + head) * HEAD;
        const float *norm = norm_q && head < rotated ? (head < heads ? norm_q : norm_k) : 0;
        float lows[each], highs[each], square = 0, along = 0;
        for (int j = 0; j < each; j++) {
            int i = lane() + 32 * j;
            lows[j] = highs[j] = 0;
            if (i >= half) continue;
            float low = dqkv[at + i], high = dqkv[at + i + half];
            if (head < rotated) {
                float c = cosines[turn + i], s = sines[turn + i];
                float turned = low * c + high * s;
                high = high * c - low * s;
                low = turned;
            }
            if (norm) {
                float x = widen(raw[at_raw + i]), y = widen(raw[at_raw + i + half]);
                square += x * x + y * y;
                along += low * norm[i] * x + high * norm[i + half] * y;
            }
            lows[j] = low;
            highs[j] = high;
        }
        float inverse = 1, slope = 0;
        if (norm) {
            inverse = 1.0f / sqrtf(warp_sum(square) / HEAD + epsilon);
            slope = warp_sum(along) * inverse * inverse * inverse / HEAD;
        }
        for (int j = 0; j < each; j++) {
            int i = lane() + 32 * j;
            if (i >= half) continue;
            if (norm) {
                float x = widen(raw[at_raw + i]), y = widen(raw[at_raw + i + half]);
                narrow(lows[j] * x * inverse, slopes[at_raw + i]);
                narrow(highs[j] * y * inverse, slopes[at_raw + i + half]);
                lows[j] = lows[j] * norm[i] * inverse - x * slope;
                highs[j] = highs[j] * norm[i + half] * inverse - y * slope;
            }
            narrow(lows[j], out[at + i]);
            narrow(highs[j], out[at + i + half]);
        }
    }
}
EXPORT(unshape_qkv)

// out = silu(gate) * up; a row of gate_up is `width` gates, then as many ups. Block x is a row, y a part of it.
KERNEL(256, swiglu)(const number *gate_up, int width, number *out) {
    int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= width) return;
    size_t row = blockIdx.x;
    float gate = widen(gate_up[2 * row * width + i]), up = widen(gate_up[(2 * row + 1) * width + i]);
    narrow(gate / (1 + exponential(-gate)) * up, out[row * width + i]);
}
EXPORT(swiglu)

// Replaces gates and ups by their gradients.
KERNEL(256, swiglu_backward)(number *gate_up, int width, const number *dout) {
    int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= width) return;
    size_t row = blockIdx.x, at = 2 * row * width + i;
    float gate = widen(gate_up[at]), up = widen(gate_up[at + width]), d = widen(dout[row * width + i]);
    float sigmoid = 1 / (1 + exponential(-gate));
    float silu = gate * sigmoid;
    narrow(d * up * (sigmoid + silu * (1 - sigmoid)), gate_up[at]);
    narrow(d * silu, gate_up[at + width]);
}
EXPORT(swiglu_backward)

// out[i] = x[rows[i]].
KERNEL(256, gather_rows)(const number *x, const int *rows, int width, number *out) {
    size_t from = (size_t)rows[blockIdx.x] * width, to = (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) out[to + i] = x[from + i];
}
EXPORT(gather_rows)

// out[rows[i]] = x[i]; no row occurs twice.
KERNEL(256, scatter_rows)(const number *x, const int *rows, int width, number *out) {
    size_t from = (size_t)blockIdx.x * width, to = (size_t)rows[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) out[to + i] = x[from + i];
}
EXPORT(scatter_rows)

// The embedding's gradient: block i adds the rows order[firsts[i]..firsts[i + 1]], in order, to that of token
// tokens[i]; no token occurs twice.
KERNEL(256, embed_backward)(const float *dhidden, const int *tokens, const int *firsts, const int *order, int width,
                            float *gradient) {
    gradient += (size_t)tokens[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float sum = 0;
        for (int at = firsts[blockIdx.x]; at < firsts[blockIdx.x + 1]; at++)
            sum += dhidden[(size_t)order[at] * width + i];
        gradient[i] += sum;
    }
}
EXPORT(embed_backward)
