//! Attention of whole micro-batches: groups of a trunk and its branches, or plain sequences.

use super::backward::{self, Share};
use super::{BLOCK, Blocks, Heads, Sight, Span, forward, pack};
use crate::kernels::buffers::Buffer;
use crate::kernels::{Shared, team};

/// Causal attention of sequences that follow each other, `lengths[i]` rows each: every row attends to the
/// rows of its own sequence up to itself.
///
/// A row of `qkv` is all heads' queries, then keys, then values (`[rows, heads.row_width()]`); `out` is
/// `[rows, heads.query_width()]`, heads in the order of their queries. Scores are divided by the root of
/// the head's width. In [`Compute::Bf16`](super::Compute::Bf16) queries, keys, values and weights are
/// rounded before they are multiplied. Memory beyond `out` is a copy of keys and values, and for each
/// thread 48 rows of scores.
///
/// # Panics
/// When a width is 0, or the lengths do not add up to the rows of `qkv` and `out`.
pub fn causal(heads: Heads, lengths: &[usize], qkv: &[f32], out: &mut [f32]) {
    groups(heads, &alone(heads, lengths, qkv, out), qkv, out);
}

/// Gradient of [`causal`]: overwrites `dqkv` (`[rows, heads.row_width()]`) with the gradient by queries, keys
/// and values, given that by the output, `dout` (`[rows, heads.query_width()]`). Attention weights are
/// computed again; sums are float32 in both number types.
///
/// # Panics
/// As [`causal`].
pub fn causal_backward(
    heads: Heads,
    lengths: &[usize],
    qkv: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    assert_eq!(dqkv.len(), qkv.len(), "a gradient for every input");
    let groups = alone(heads, lengths, qkv, dout);
    groups_backward(heads, &groups, qkv, dout, dqkv);
}

/// Each sequence as a group of one trunk; checks the sizes.
fn alone(heads: Heads, lengths: &[usize], qkv: &[f32], out: &[f32]) -> Vec<Vec<Span>> {
    assert!(
        heads.kv_heads > 0 && heads.per_kv > 0 && heads.width > 0,
        "a width is 0: {heads:?}"
    );
    let total: usize = lengths.iter().sum();
    assert_eq!(qkv.len(), total * heads.row_width(), "rows of q, k and v");
    assert_eq!(out.len(), total * heads.query_width(), "rows of the output");
    let mut first = 0;
    let group = |&rows: &usize| {
        let fork = 0;
        first += rows;
        let first = first - rows;
        vec![Span { first, rows, fork }]
    };
    lengths.iter().map(group).collect()
}

/// Attention of every row over the trunk prefix and the own span it sees: `qkv` is
/// `[rows, heads.row_width()]`, `out` `[rows, heads.query_width()]`. Groups begin with their trunk.
pub(crate) fn groups(heads: Heads, groups: &[Vec<Span>], qkv: &[f32], out: &mut [f32]) {
    let (stride, words) = (heads.row_width(), heads.block_words());
    let spans: Vec<Span> = groups.iter().flatten().copied().collect();
    // Where each span's blocks begin, in blocks of all key-value heads.
    let count = |span: &Span| span.rows.div_ceil(BLOCK);
    let mut starts = Vec::with_capacity(spans.len());
    let mut blocks = 0;
    for span in &spans {
        starts.push(blocks);
        blocks += count(span) * heads.kv_heads;
    }
    let mut packed = Buffer::take(blocks * words);
    let shared = Shared(packed.as_mut_ptr());
    let each = |index: usize| (index / heads.kv_heads, index % heads.kv_heads);
    team::each(spans.len() * heads.kv_heads, |index| {
        let (s, kv_head) = each(index);
        let (span, own) = (&spans[s], count(&spans[s]));
        // SAFETY: each task writes the blocks of its span and head.
        let out = unsafe { shared.slice((starts[s] + kv_head * own) * words, own * words) };
        pack(heads, kv_head, &qkv[span.first * stride..], span.rows, out);
    });
    let packed = &packed;
    let run = |s: usize, kv_head: usize| {
        let own = count(&spans[s]);
        let from = (starts[s] + kv_head * own) * words;
        Blocks::Run(&packed[from..from + own * words], words)
    };
    // (span, its group's trunk, first row within the span).
    let mut tasks = Vec::new();
    let mut index = 0;
    for group in groups {
        let trunk = index;
        for span in group {
            let firsts = (0..span.rows).step_by(heads.rows_per_task());
            tasks.extend(firsts.map(|first| (index, trunk, first)));
            index += 1;
        }
    }
    let shared = Shared(out.as_mut_ptr());
    team::each_with(
        tasks.len() * heads.kv_heads,
        Default::default,
        |scratch, index| {
            let (task, kv_head) = each(index);
            let (s, trunk, first) = tasks[task];
            let span = &spans[s];
            let row = span.first + first;
            let sight = Sight {
                trunk: run(trunk, kv_head),
                fork: span.fork,
                own: run(s, kv_head),
                before: first,
            };
            let count = heads.rows_per_task().min(span.rows - first);
            // SAFETY: each task writes one head of its own rows.
            unsafe {
                let out = Shared(shared.at(row * heads.query_width()));
                let queries = &qkv[row * stride..];
                forward::sequence(heads, kv_head, queries, count, sight, scratch, out);
            }
        },
    );
}

/// Gradient of [`groups`] by q, k and v: overwrites `dqkv`.
pub(crate) fn groups_backward(
    heads: Heads,
    groups: &[Vec<Span>],
    qkv: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    let shared = Shared(dqkv.as_mut_ptr());
    let shares: Vec<Share> = groups
        .iter()
        .enumerate()
        .flat_map(|(group, spans)| backward::shares(group, spans))
        .collect();
    // For each share, the parts of all heads.
    let mut parts: Vec<Buffer> = team::collect(
        shares.len() * heads.kv_heads,
        Default::default,
        |scratch, index| {
            let (share, kv_head) = (&shares[index / heads.kv_heads], index % heads.kv_heads);
            let spans = &groups[share.group];
            // SAFETY: a task owns the key-value head's columns of its share's rows, and those of
            // the query heads that read it.
            unsafe { backward::share(heads, kv_head, share, spans, qkv, dout, shared, scratch) }
        },
    );
    let mut rest = parts.drain(..);
    for shares in shares.chunk_by(|a, b| a.group == b.group) {
        let mut by_head: Vec<Vec<Buffer>> = (0..heads.kv_heads).map(|_| Vec::new()).collect();
        for _ in shares {
            for (head, part) in by_head.iter_mut().zip(rest.by_ref().take(heads.kv_heads)) {
                head.push(part);
            }
        }
        let trunk = groups[shares[0].group][0];
        for (kv_head, parts) in by_head.into_iter().enumerate() {
            // SAFETY: nothing else runs on these rows any more.
            unsafe { backward::finish(heads, kv_head, trunk, parts, shared) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Compute;
    use super::*;
    use seele_random::Key;

    /// Output of one causal sequence and the gradient of `sum(dout * output)` by q, k and v, with a
    /// tokens x tokens matrix in float64.
    fn naive(heads: Heads, qkv: &[f32], dout: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let (width, stride) = (heads.width, heads.row_width());
        let rows = qkv.len() / stride;
        let queries = heads.kv_heads * heads.per_kv;
        let scale = 1.0 / (width as f64).sqrt();
        let (mut out, mut dqkv) = (vec![0.0; dout.len()], vec![0.0; qkv.len()]);
        for h in 0..queries {
            // Columns of the head's query, key and value, and of its output.
            let kv = h / heads.per_kv;
            let columns = [h, queries + kv, queries + heads.kv_heads + kv].map(|c| c * width);
            let x = |row: usize, part: usize, e: usize| {
                f64::from(qkv[row * stride + columns[part] + e])
            };
            for i in 0..rows {
                let at = i * queries * width + h * width;
                let dot = |j: usize| (0..width).map(|e| x(i, 0, e) * x(j, 1, e)).sum::<f64>();
                let weights: Vec<f64> = (0..=i).map(|j| (dot(j) * scale).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let weights: Vec<f64> = weights.iter().map(|w| w / sum).collect();
                let d = |e: usize| f64::from(dout[at + e]);
                let slopes: Vec<f64> = (0..=i)
                    .map(|j| (0..width).map(|e| d(e) * x(j, 2, e)).sum())
                    .collect();
                let mean: f64 = weights.iter().zip(&slopes).map(|(w, s)| w * s).sum();
                for j in 0..=i {
                    let slope = weights[j] * (slopes[j] - mean) * scale;
                    for e in 0..width {
                        out[at + e] += weights[j] * x(j, 2, e);
                        dqkv[i * stride + columns[0] + e] += slope * x(j, 1, e);
                        dqkv[j * stride + columns[1] + e] += slope * x(i, 0, e);
                        dqkv[j * stride + columns[2] + e] += weights[j] * d(e);
                    }
                }
            }
        }
        (out, dqkv)
    }

    fn assert_close(what: &str, ours: &[f32], exact: &[f64], tolerance: f64) {
        let largest = exact.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        for (i, (&ours, exact)) in ours.iter().zip(exact).enumerate() {
            let error = (f64::from(ours) - exact).abs();
            assert!(
                error <= tolerance * largest,
                "{what} {i}: {ours} is not {exact} (largest {largest})"
            );
        }
    }

    #[test]
    fn sequences_attend_causally_as_in_float64() {
        let random = |len: usize, key: u64| -> Vec<f32> {
            (0..len)
                .map(|i| (Key::new(key).with(i as u64).uniform() * 4.0 - 2.0) as f32)
                .collect()
        };
        let lengths = [1, 37, 0, 32, 70];
        let rows: usize = lengths.iter().sum();
        // Rounding to bfloat16 is off by up to 2^-9 for each of a product's factors and the weights.
        for (compute, tolerance) in [(Compute::F32, 2e-6), (Compute::Bf16, 1.5e-2)] {
            for (kv_heads, per_kv, width) in [(2, 3, 64), (1, 1, 8), (3, 2, 40)] {
                let heads = Heads {
                    kv_heads,
                    per_kv,
                    width,
                    compute,
                };
                let qkv = random(rows * heads.row_width(), 1);
                let dout = random(rows * heads.query_width(), 2);
                let mut out = vec![f32::NAN; dout.len()];
                let mut dqkv = vec![f32::NAN; qkv.len()];
                causal(heads, &lengths, &qkv, &mut out);
                causal_backward(heads, &lengths, &qkv, &dout, &mut dqkv);
                let (mut exact_out, mut exact_dqkv) = (Vec::new(), Vec::new());
                let mut first = 0;
                for len in lengths {
                    let at = |width: usize| first * width..(first + len) * width;
                    let dout = &dout[at(heads.query_width())];
                    let (out, dqkv) = naive(heads, &qkv[at(heads.row_width())], dout);
                    exact_out.extend(out);
                    exact_dqkv.extend(dqkv);
                    first += len;
                }
                assert_close(&format!("{heads:?} output"), &out, &exact_out, tolerance);
                assert_close(
                    &format!("{heads:?} gradient"),
                    &dqkv,
                    &exact_dqkv,
                    tolerance,
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "rows of q, k and v")]
    fn lengths_that_do_not_add_up_are_refused() {
        let heads = Heads {
            kv_heads: 1,
            per_kv: 1,
            width: 4,
            compute: Compute::F32,
        };
        causal(heads, &[2], &[0.0; 12], &mut [0.0; 8]);
    }
}
