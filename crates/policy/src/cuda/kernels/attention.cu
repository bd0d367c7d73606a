// Attention on trunk and branches, forward and backward, without a matrix of tokens x tokens. A query sees the
// first `fork` rows of its trunk and the rows of its own span up to itself; both parts join by running maximum
// and sum. Every sum has one order, so results do not depend on how blocks are scheduled.

// Rows that a block of four warps works on: 16 a warp.
const int ROWS = 64;
// Keys that it meets at a time, whole pages of them; keys in the gradient of queries; queries in the gradient of keys
// and values. With SMALL tiles float32 heads of any width fit into the shared memory of every device.
const int KEYS = SMALL ? 32 : 64;
const int KEYS_BACKWARD = SMALL ? 16 : 64;
const int QUERIES = SMALL ? 16 : 32;

// Neighbouring queries of one span. `own` is the first row of the span (or its first position in pages),
// `before` how many of the span's rows precede these, `trunk` the trunk's first row, `table` where the page
// table begins.
struct Queries {
    int row, count, own, before, trunk, fork, table;
};

// Which keys a tile sees of the trunk and of its own span.
DEVICE int seen(const Queries &q, bool own) { return own ? q.before + q.count : q.fork; }

// Keys and values of a run of positions, from rows of q, k and v or from pages, into tiles of `rows` rows.
DEVICE void load_keys(number *keys, number *values, int rows, const Queries &q, bool own, int first, int count,
                      const number *qkv, size_t stride, int heads, int kv_heads, int kv_head, const address *pages,
                      int layer) {
    if (!pages) {
        size_t row = (own ? q.own : q.trunk) + first;
        const number *from = qkv + row * stride + (heads + kv_head) * HEAD;
        load_tile(keys, rows, from, stride, count);
        load_tile(values, rows, from + kv_heads * HEAD, stride, count);
        return;
    }
    for (int start = 0; start < rows; start += PAGE) {
        int here = count - start < PAGE ? count - start : PAGE;
        // `first` is a multiple of KEYS, and so of PAGE: a page is met from its start.
        const number *from = here > 0 ? page_head(pages[q.table + (first + start) / PAGE], layer, kv_heads, kv_head) : 0;
        load_tile(keys + start * PITCH, PAGE, from, HEAD, here);
        load_tile(values + start * PITCH, PAGE, here > 0 ? from + PAGE * HEAD : 0, HEAD, here);
    }
}

// Block (tile, head). out is [rows, heads * HEAD], log_sums [heads, rows].
KERNEL(128, attend)(const number *qkv, int heads, int kv_heads, const Queries *tiles, const address *pages, int layer,
                    float scale, int rows, number *out, float *log_sums) {
    Queries q = tiles[blockIdx.x];
    int head = blockIdx.y, kv_head = head / (heads / kv_heads);
    size_t stride = (size_t)(heads + 2 * kv_heads) * HEAD;
    const int WEIGHTS = KEYS + 16 / (int)sizeof(number);
    number *queries = (number *)block_memory, *keys = queries + ROWS * PITCH, *values = keys + KEYS * PITCH;
    number *weights = values + KEYS * PITCH + warp() * 16 * WEIGHTS;
    load_tile(queries, ROWS, qkv + q.row * stride + head * HEAD, stride, q.count);
    Tile<WIDTH / 8> sums;
    sums.clear();
    float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    for (int part = 0; part < 2; part++) {
        int count = seen(q, part);
        for (int first = 0; first < count; first += KEYS) {
            __syncthreads();
            int here = count - first < KEYS ? count - first : KEYS;
            load_keys(keys, values, KEYS, q, part, first, here, qkv, stride, heads, kv_heads, kv_head, pages, layer);
            __syncthreads();
            Tile<KEYS / 8> scores;
            scores.clear();
            multiply<true>(scores, queries + warp() * 16 * PITCH, PITCH, keys, PITCH, WIDTH);
            float most[2] = {largest[0], largest[1]};
            for (int n = 0; n < KEYS / 8; n++)
                for (int i = 0; i < 4; i++) {
                    int row = warp() * 16 + tile_row(i), key = first + tile_column(n, i);
                    bool visible = key < count && (part == 0 || key <= q.before + row);
                    scores.at[n][i] = visible ? scores.at[n][i] * scale : -INFINITY;
                    most[i / 2] = fmaxf(most[i / 2], scores.at[n][i]);
                }
            for (int side = 0; side < 2; side++) {
                most[side] = row_maximum(most[side]);
                float kept = exponential(largest[side] - most[side]);
                total[side] *= kept;
                for (int n = 0; n < WIDTH / 8; n++)
                    for (int i = 0; i < 2; i++) sums.at[n][side * 2 + i] *= kept;
                largest[side] = most[side];
            }
            for (int n = 0; n < KEYS / 8; n++)
                for (int i = 0; i < 4; i++) {
                    float weight = exponential(scores.at[n][i] - largest[i / 2]);
                    total[i / 2] += weight;
                    narrow(weight, weights[tile_row(i) * WEIGHTS + tile_column(n, i)]);
                }
            __syncwarp();
            multiply<false>(sums, weights, WEIGHTS, values, PITCH, KEYS);
            __syncwarp();
        }
    }
    for (int side = 0; side < 2; side++) total[side] = row_sum(total[side]);
    for (int i = 0; i < 4; i++) {
        int row = warp() * 16 + tile_row(i);
        if (row >= q.count) continue;
        for (int n = 0; n < WIDTH / 8; n++) {
            int column = tile_column(n, i);
            if (column < HEAD)
                narrow(sums.at[n][i] / total[i / 2], out[((size_t)(q.row + row) * heads + head) * HEAD + column]);
        }
        if (lane() % 4 == 0 && i % 2 == 0)
            log_sums[(size_t)head * rows + q.row + row] = largest[i / 2] + logf(total[i / 2]);
    }
}
EXPORT(attend)

// The gradient of the queries, into their places of dqkv ([rows, stride], float), and each row's
// delta = sum of dout * out ([heads, rows]). Block (tile, head).
KERNEL(128, attend_backward_queries)(const number *qkv, int heads, int kv_heads, const Queries *tiles, float scale,
                                     int rows, const number *out, const number *dout, const float *log_sums,
                                     float *deltas, float *dqkv) {
    Queries q = tiles[blockIdx.x];
    int head = blockIdx.y, kv_head = head / (heads / kv_heads);
    size_t stride = (size_t)(heads + 2 * kv_heads) * HEAD, width = (size_t)heads * HEAD;
    const int WEIGHTS = KEYS_BACKWARD + 16 / (int)sizeof(number);
    number *queries = (number *)block_memory, *slopes = queries + ROWS * PITCH;
    number *keys = slopes + ROWS * PITCH, *values = keys + KEYS_BACKWARD * PITCH;
    number *weights = values + KEYS_BACKWARD * PITCH + warp() * 16 * WEIGHTS;
    load_tile(queries, ROWS, qkv + q.row * stride + head * HEAD, stride, q.count);
    load_tile(slopes, ROWS, dout + q.row * width + head * HEAD, width, q.count);
    for (int row = warp(); row < q.count; row += 4) {
        size_t at = (q.row + row) * width + head * HEAD;
        float sum = 0;
        for (int i = lane(); i < HEAD; i += 32) sum += widen(dout[at + i]) * widen(out[at + i]);
        sum = warp_sum(sum);
        if (lane() == 0) deltas[(size_t)head * rows + q.row + row] = sum;
    }
    __syncthreads();
    float log_sum[2], delta[2];
    for (int side = 0; side < 2; side++) {
        int row = warp() * 16 + tile_row(side * 2);
        size_t at = (size_t)head * rows + q.row + row;
        log_sum[side] = row < q.count ? log_sums[at] : 0.0f;
        delta[side] = row < q.count ? deltas[at] : 0.0f;
    }
    Tile<WIDTH / 8> sums;
    sums.clear();
    for (int part = 0; part < 2; part++) {
        int count = seen(q, part);
        for (int first = 0; first < count; first += KEYS_BACKWARD) {
            __syncthreads();
            int here = count - first < KEYS_BACKWARD ? count - first : KEYS_BACKWARD;
            load_keys(keys, values, KEYS_BACKWARD, q, part, first, here, qkv, stride, heads, kv_heads, kv_head, 0, 0);
            __syncthreads();
            Tile<KEYS_BACKWARD / 8> scores, shares;
            scores.clear();
            shares.clear();
            multiply<true>(scores, queries + warp() * 16 * PITCH, PITCH, keys, PITCH, WIDTH);
            multiply<true>(shares, slopes + warp() * 16 * PITCH, PITCH, values, PITCH, WIDTH);
            for (int n = 0; n < KEYS_BACKWARD / 8; n++)
                for (int i = 0; i < 4; i++) {
                    int row = warp() * 16 + tile_row(i), key = first + tile_column(n, i);
                    bool visible = row < q.count && key < count && (part == 0 || key <= q.before + row);
                    float weight = visible ? exponential(scores.at[n][i] * scale - log_sum[i / 2]) : 0.0f;
                    narrow(weight * (shares.at[n][i] - delta[i / 2]) * scale,
                           weights[tile_row(i) * WEIGHTS + tile_column(n, i)]);
                }
            __syncwarp();
            multiply<false>(sums, weights, WEIGHTS, keys, PITCH, KEYS_BACKWARD);
            __syncwarp();
        }
    }
    for (int i = 0; i < 4; i++) {
        int row = warp() * 16 + tile_row(i);
        for (int n = 0; n < WIDTH / 8; n++) {
            int column = tile_column(n, i);
            if (row < q.count && column < HEAD) dqkv[(q.row + row) * stride + head * HEAD + column] = sums.at[n][i];
        }
    }
}
EXPORT(attend_backward_queries)

// Neighbouring keys of one span, and who sees them: readers[first..first + readers].
struct Keys {
    int row, count, before, first, readers;
};

// Rows of queries that see keys: of the own span (fork -1) a query sees keys up to itself, of a branch the
// keys before its fork.
struct Reader {
    int row, count, fork;
};

// The gradient of keys and values by one query head: parts is [2][heads][rows][HEAD], keys first. A warp takes
// 16 keys. Block (tile, head).
KERNEL(128, attend_backward_keys)(const number *qkv, int heads, int kv_heads, const Keys *tiles, const Reader *readers,
                                  float scale, int rows, const number *dout, const float *log_sums,
                                  const float *deltas, float *parts) {
    Keys k = tiles[blockIdx.x];
    int head = blockIdx.y, kv_head = head / (heads / kv_heads);
    size_t stride = (size_t)(heads + 2 * kv_heads) * HEAD, width = (size_t)heads * HEAD;
    const int WEIGHTS = QUERIES + 16 / (int)sizeof(number);
    number *keys = (number *)block_memory, *values = keys + ROWS * PITCH;
    number *queries = values + ROWS * PITCH, *slopes = queries + QUERIES * PITCH;
    number *weights = slopes + QUERIES * PITCH + warp() * 2 * 16 * WEIGHTS, *changes = weights + 16 * WEIGHTS;
    const number *from = qkv + k.row * stride + (heads + kv_head) * HEAD;
    load_tile(keys, ROWS, from, stride, k.count);
    load_tile(values, ROWS, from + kv_heads * HEAD, stride, k.count);
    Tile<WIDTH / 8> dkeys, dvalues;
    dkeys.clear();
    dvalues.clear();
    for (int reader = 0; reader < k.readers; reader++) {
        Reader r = readers[k.first + reader];
        // Rows of the own span before these keys see none of them.
        int begin = r.fork < 0 ? k.before : 0;
        for (int first = begin; first < r.count; first += QUERIES) {
            int here = r.count - first < QUERIES ? r.count - first : QUERIES;
            size_t row = r.row + first;
            __syncthreads();
            load_tile(queries, QUERIES, qkv + row * stride + head * HEAD, stride, here);
            load_tile(slopes, QUERIES, dout + row * width + head * HEAD, width, here);
            __syncthreads();
            Tile<QUERIES / 8> scores, shares;
            scores.clear();
            shares.clear();
            multiply<true>(scores, keys + warp() * 16 * PITCH, PITCH, queries, PITCH, WIDTH);
            multiply<true>(shares, values + warp() * 16 * PITCH, PITCH, slopes, PITCH, WIDTH);
            for (int n = 0; n < QUERIES / 8; n++)
                for (int i = 0; i < 4; i++) {
                    int local = warp() * 16 + tile_row(i), key = k.before + local, column = tile_column(n, i);
                    bool visible = local < k.count && column < here;
                    visible = visible && (r.fork < 0 ? key <= first + column : key < r.fork);
                    size_t at = (size_t)head * rows + row + column;
                    float weight = 0, change = 0;
                    if (visible) {
                        weight = exponential(scores.at[n][i] * scale - log_sums[at]);
                        change = weight * (shares.at[n][i] - deltas[at]) * scale;
                    }
                    narrow(weight, weights[tile_row(i) * WEIGHTS + column]);
                    narrow(change, changes[tile_row(i) * WEIGHTS + column]);
                }
            __syncwarp();
            multiply<false>(dvalues, weights, WEIGHTS, slopes, PITCH, QUERIES);
            multiply<false>(dkeys, changes, WEIGHTS, queries, PITCH, QUERIES);
            __syncwarp();
        }
    }
    for (int i = 0; i < 4; i++) {
        int row = warp() * 16 + tile_row(i);
        for (int n = 0; n < WIDTH / 8; n++) {
            int column = tile_column(n, i);
            if (row >= k.count || column >= HEAD) continue;
            parts[((size_t)head * rows + k.row + row) * HEAD + column] = dkeys.at[n][i];
            parts[((size_t)(heads + head) * rows + k.row + row) * HEAD + column] = dvalues.at[n][i];
        }
    }
}
EXPORT(attend_backward_keys)

// Adds up what attend_backward_keys left for the heads of a key-value head, into dqkv. Block x is a row.
KERNEL(128, sum_heads)(const float *parts, int heads, int kv_heads, int rows, float *dqkv) {
    int row = blockIdx.x, per = heads / kv_heads;
    size_t stride = (size_t)(heads + 2 * kv_heads) * HEAD;
    for (int i = threadIdx.x; i < 2 * kv_heads * HEAD; i += blockDim.x) {
        int of = i / (kv_heads * HEAD), kv_head = i / HEAD % kv_heads, column = i % HEAD;
        float sum = 0;
        for (int h = kv_head * per; h < (kv_head + 1) * per; h++)
            sum += parts[((size_t)(of * heads + h) * rows + row) * HEAD + column];
        dqkv[row * stride + heads * HEAD + i] = sum;
    }
}
EXPORT(sum_heads)

// One new token a row: its queries over its trunk's pages up to the fork and over its own pages.
struct Decoding {
    int trunk, fork, own, count;
};

// Query heads of a key-value head that are computed at a time.
const int TOGETHER = 8;
const int EACH = (HEAD + 31) / 32;

// Block (row, key-value head) of four warps. A warp takes every fourth page, a lane one of its keys for the
// scores and some elements of the head for the sums; the warps' parts are joined at the end.
KERNEL(128, attend_decoding)(const number *qkv, int heads, int kv_heads, const Decoding *rows, const address *pages,
                             int layer, float scale, number *out) {
    __shared__ float queries[TOGETHER][HEAD], weights[4][TOGETHER][PAGE];
    __shared__ float joined[4][TOGETHER][HEAD], maxima[4][TOGETHER], totals[4][TOGETHER];
    Decoding r = rows[blockIdx.x];
    int kv_head = blockIdx.y, per = heads / kv_heads;
    size_t stride = (size_t)(heads + 2 * kv_heads) * HEAD;
    for (int start = 0; start < per; start += TOGETHER) {
        int count = per - start < TOGETHER ? per - start : TOGETHER, head = kv_head * per + start;
        __syncthreads();
        for (int i = threadIdx.x; i < TOGETHER * HEAD; i += blockDim.x) {
            bool is = i / HEAD < count;
            queries[i / HEAD][i % HEAD] = is ? widen(qkv[blockIdx.x * stride + head * HEAD + i]) * scale : 0.0f;
        }
        __syncthreads();
        float largest[TOGETHER], total[TOGETHER], sums[TOGETHER][EACH];
#pragma unroll
        for (int h = 0; h < TOGETHER; h++) {
            largest[h] = -INFINITY;
            total[h] = 0;
            for (int i = 0; i < EACH; i++) sums[h][i] = 0;
        }
        int trunk_pages = (r.fork + PAGE - 1) / PAGE, all = trunk_pages + (r.count + PAGE - 1) / PAGE;
        for (int p = warp(); p < all; p += 4) {
            bool own = p >= trunk_pages;
            int index = own ? p - trunk_pages : p;
            int here = (own ? r.count : r.fork) - index * PAGE;
            if (here > PAGE) here = PAGE;
            const number *keys = page_head(pages[(own ? r.own : r.trunk) + index], layer, kv_heads, kv_head);
            const number *values = keys + PAGE * HEAD;
            float scores[TOGETHER];
#pragma unroll
            for (int h = 0; h < TOGETHER; h++) scores[h] = 0;
            if ((int)lane() < here)
                for (int i = 0; i < HEAD; i++) {
                    float key = widen(keys[lane() * HEAD + i]);
#pragma unroll
                    for (int h = 0; h < TOGETHER; h++) scores[h] += queries[h][i] * key;
                }
#pragma unroll
            for (int h = 0; h < TOGETHER; h++) {
                float score = (int)lane() < here ? scores[h] : -INFINITY;
                float most = fmaxf(largest[h], warp_maximum(score));
                float kept = exponential(largest[h] - most), weight = exponential(score - most);
                largest[h] = most;
                total[h] = total[h] * kept + warp_sum(weight);
                for (int i = 0; i < EACH; i++) sums[h][i] *= kept;
                weights[warp()][h][lane()] = weight;
            }
            __syncwarp();
            for (int key = 0; key < here; key++)
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    int column = lane() + 32 * i;
                    float value = column < HEAD ? widen(values[key * HEAD + column]) : 0.0f;
#pragma unroll
                    for (int h = 0; h < TOGETHER; h++) sums[h][i] += weights[warp()][h][key] * value;
                }
            __syncwarp();
        }
#pragma unroll
        for (int h = 0; h < TOGETHER; h++) {
            if (lane() == 0) {
                maxima[warp()][h] = largest[h];
                totals[warp()][h] = total[h];
            }
#pragma unroll
            for (int i = 0; i < EACH; i++)
                if (lane() + 32 * i < HEAD) joined[warp()][h][lane() + 32 * i] = sums[h][i];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count * HEAD; i += blockDim.x) {
            int h = i / HEAD;
            float most = maxima[0][h], whole = 0, sum = 0;
            for (int w = 1; w < 4; w++) most = fmaxf(most, maxima[w][h]);
            for (int w = 0; w < 4; w++) {
                // A warp without pages has maximum -inf and weighs nothing.
                float share = exponential(maxima[w][h] - most);
                whole += totals[w][h] * share;
                sum += joined[w][h][i % HEAD] * share;
            }
            narrow(sum / whole, out[(size_t)blockIdx.x * heads * HEAD + head * HEAD + i]);
        }
    }
}
EXPORT(attend_decoding)
