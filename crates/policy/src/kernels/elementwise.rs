//! RMS norm, rotary embedding, SwiGLU and bias, forward and backward, row by row.

use super::softmax::{exp, total};
use super::{Shared, multiversion, team};

/// Elements below which a pass runs on the calling thread.
const SERIAL_ELEMENTS: usize = 1 << 15;
/// Rows of a task.
const ROWS_AT_A_TIME: usize = 8;

/// Runs `work` on each row of `out`, on several threads if there is enough to do.
fn each_row(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() < SERIAL_ELEMENTS {
        out.chunks_mut(width)
            .enumerate()
            .for_each(|(i, row)| work(i, row));
    } else {
        team::each_chunk(out, ROWS_AT_A_TIME * width, |i, rows| {
            for (j, row) in rows.chunks_mut(width).enumerate() {
                work(ROWS_AT_A_TIME * i + j, row);
            }
        });
    }
}

/// Dot product in 16 partial sums.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (ca, cb) = (a.chunks_exact(16), b.chunks_exact(16));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (x, y) in ca.zip(cb) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    total(lanes) + ra.iter().zip(rb).map(|(x, y)| x * y).sum::<f32>()
}

multiversion! {
    fn norm_row(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
        let mut lanes = [0.0f32; 16];
        for chunk in x.chunks(16) {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane += v * v;
            }
        }
        let inverse = 1.0 / (total(lanes) / x.len() as f32 + epsilon).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * inverse * w;
        }
    }
}

/// RMS norm of each row of width `weight.len()`: `y = x / sqrt(mean(x^2) + epsilon) * weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = weight.len();
    each_row(y, width, |i, y| {
        norm_row(&x[i * width..(i + 1) * width], weight, epsilon, y)
    });
}

multiversion! {
    fn norm_row_backward(x: &[f32], weight: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32], dweight: &mut [f32]) {
        let (mut square, mut along) = ([0.0f32; 16], [0.0f32; 16]);
        for ((x, w), dy) in x.chunks(16).zip(weight.chunks(16)).zip(dy.chunks(16)) {
            for (l, ((x, w), dy)) in x.iter().zip(w).zip(dy).enumerate() {
                square[l] += x * x;
                along[l] += dy * w * x;
            }
        }
        let width = x.len() as f32;
        let inverse = 1.0 / (total(square) / width + epsilon).sqrt();
        let slope = total(along) * inverse * inverse * inverse / width;
        for ((((dx, dw), x), w), dy) in dx.iter_mut().zip(dweight).zip(x).zip(weight).zip(dy) {
            *dx += dy * w * inverse - x * slope;
            *dw += dy * x * inverse;
        }
    }
}

/// Rows whose shares of a weight's gradient are summed before they join those of other rows: part of
/// the order of the sum, whatever the number of threads.
const ROWS_PER_SUM: usize = 64;

/// Calls `work(first row, rows' elements of d, sum)` for blocks of rows of width `width`, and adds each
/// block's `sum` (`[dweight.len()]`, starts at zero) to `dweight` in the order of blocks.
fn summed_rows(
    d: &mut [f32],
    width: usize,
    dweight: &mut [f32],
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let len = dweight.len();
    let block = |(i, d): (usize, &mut [f32])| {
        let mut sum = vec![0.0; len];
        work(i * ROWS_PER_SUM, d, &mut sum);
        sum
    };
    let sums: Vec<Vec<f32>> = if d.len() < SERIAL_ELEMENTS {
        let blocks = d.chunks_mut(width * ROWS_PER_SUM).enumerate();
        blocks.map(block).collect()
    } else {
        let len = width * ROWS_PER_SUM;
        team::collect_chunks(d, len, || (), |(), i, d| block((i, d)))
    };
    for sum in sums {
        add(dweight, &sum);
    }
}

/// Gradient of [`rms_norm`]: adds to `dx` and to `dweight`.
pub fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let width = weight.len();
    summed_rows(dx, width, dweight, |first, dx, dweight| {
        for (i, dx) in dx.chunks_exact_mut(width).enumerate() {
            let at = (first + i) * width..(first + i + 1) * width;
            norm_row_backward(&x[at.clone()], weight, epsilon, &dy[at], dx, dweight);
        }
    });
}

/// RMS norm of each head at the start of each row of `x` (`[rows, stride]`), in place: `heads[i]` heads
/// in a row use `weights[i]` (`[head width]`). What they were is written to `raw`
/// (`[rows, heads' elements]`).
pub(crate) fn head_norms(
    x: &mut [f32],
    stride: usize,
    heads: [usize; 2],
    weights: [&[f32]; 2],
    epsilon: f32,
    raw: &mut [f32],
) {
    let width = (heads[0] + heads[1]) * weights[0].len();
    let shared = Shared(x.as_mut_ptr());
    each_row(raw, width, |i, raw| {
        // SAFETY: row i of `x` belongs to this call alone.
        let row = unsafe { shared.slice(i * stride, width) };
        raw.copy_from_slice(row);
        for ((head, raw), weight) in each_head(row, heads, weights[0].len())
            .zip(raw.chunks_exact(weights[0].len()))
            .map(|((which, head), raw)| ((head, raw), weights[which]))
        {
            norm_row(raw, weight, epsilon, head);
        }
    });
}

fn each_head(
    row: &mut [f32],
    heads: [usize; 2],
    width: usize,
) -> impl Iterator<Item = (usize, &mut [f32])> {
    row.chunks_exact_mut(width)
        .enumerate()
        .map(move |(i, head)| (usize::from(i >= heads[0]), head))
}

/// Gradient of [`head_norms`], in place on `d` (`[rows, stride]`); adds to `dweights`.
pub(crate) fn head_norms_backward(
    raw: &[f32],
    d: &mut [f32],
    stride: usize,
    heads: [usize; 2],
    weights: [&[f32]; 2],
    epsilon: f32,
    dweights: [&mut [f32]; 2],
) {
    let one = weights[0].len();
    let width = (heads[0] + heads[1]) * one;
    let mut both = vec![0.0; 2 * one];
    summed_rows(d, stride, &mut both, |first, d, sums| {
        let mut dhead = vec![0.0; one];
        for (i, row) in d.chunks_exact_mut(stride).enumerate() {
            let raw = &raw[(first + i) * width..(first + i + 1) * width];
            let heads = each_head(&mut row[..width], heads, one).zip(raw.chunks_exact(one));
            for ((which, head), raw) in heads {
                dhead.fill(0.0);
                let sum = &mut sums[which * one..(which + 1) * one];
                norm_row_backward(raw, weights[which], epsilon, head, &mut dhead, sum);
                head.copy_from_slice(&dhead);
            }
        }
    });
    for (dweight, sum) in dweights.into_iter().zip(both.chunks_exact(one)) {
        add(dweight, sum);
    }
}

/// Cosines and sines of every (position, pair): the rotary embedding's table.
#[derive(Clone, Debug)]
pub struct Rotary {
    half: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotary {
    /// A table for positions `0..positions` with the given inverse frequencies (`[head_dim / 2]`).
    pub fn new(frequencies: &[f32], positions: usize) -> Self {
        let angles =
            (0..positions).flat_map(|p| frequencies.iter().map(move |&f| p as f64 * f64::from(f)));
        let (sines, cosines) = angles.map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
        Self {
            half: frequencies.len(),
            cosines,
            sines,
        }
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.cosines.len() / self.half.max(1)
    }

    /// Rotates the heads in the first `width` elements of each row of `x` (`[rows, stride]`, halves of a
    /// head paired as in Hugging Face) to the row's position; `sign` 1 forward, -1 backward (the inverse
    /// rotation).
    pub fn rotate(
        &self,
        x: &mut [f32],
        stride: usize,
        width: usize,
        positions: &[usize],
        sign: f32,
    ) {
        let half = self.half;
        each_row(x, stride, |i, row| {
            let at = positions[i] * half;
            let (cosines, sines) = (&self.cosines[at..at + half], &self.sines[at..at + half]);
            rotate_row(&mut row[..width], cosines, sines, sign);
        });
    }
}

multiversion! {
    fn rotate_row(row: &mut [f32], cosines: &[f32], sines: &[f32], sign: f32) {
        let half = cosines.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (low, high) = head.split_at_mut(half);
            for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                let (x, y) = (*a, *b);
                *a = x * c - y * (s * sign);
                *b = y * c + x * (s * sign);
            }
        }
    }
}

multiversion! {
    fn swiglu_row(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = g / (1.0 + exp(-g)) * u;
        }
    }
}

/// `out = silu(gate) * up`: a row of `gate_up` is `width` gates, then as many ups; `out` is
/// `[rows, width]`.
pub fn swiglu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    each_row(out, width, |i, out| {
        let (gate, up) = gate_up[2 * i * width..2 * (i + 1) * width].split_at(width);
        swiglu_row(gate, up, out);
    });
}

multiversion! {
    fn swiglu_row_backward(gate: &mut [f32], up: &mut [f32], dout: &[f32]) {
        for ((g, u), &d) in gate.iter_mut().zip(up).zip(dout) {
            let sigmoid = 1.0 / (1.0 + exp(-*g));
            let silu = *g * sigmoid;
            let dgate = d * *u * (sigmoid + silu * (1.0 - sigmoid));
            *u = d * silu;
            *g = dgate;
        }
    }
}

/// Gradient of [`swiglu`]: replaces gates and ups by their gradients.
pub fn swiglu_backward(gate_up: &mut [f32], width: usize, dout: &[f32]) {
    each_row(gate_up, 2 * width, |i, row| {
        let (gate, up) = row.split_at_mut(width);
        swiglu_row_backward(gate, up, &dout[i * width..(i + 1) * width]);
    });
}

multiversion! {
    /// Multiplies every element with a factor.
    pub(crate) fn scale(values: &mut [f32], factor: f32) {
        for value in values {
            *value *= factor;
        }
    }
}

multiversion! {
    /// `y += x`.
    pub fn add(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// `y += x`, on several threads if there is enough to do.
pub(crate) fn add_rows(y: &mut [f32], x: &[f32]) {
    const BLOCK: usize = 4096;
    each_row(y, BLOCK, |i, y| add(y, &x[i * BLOCK..i * BLOCK + y.len()]));
}

/// Adds `bias` to each row.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    each_row(y, bias.len(), |_, row| add(row, bias));
}

/// Adds the rows of `dy` to `dbias`.
pub fn add_bias_backward(dy: &[f32], dbias: &mut [f32]) {
    for row in dy.chunks_exact(dbias.len()) {
        add(dbias, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_random::Key;

    const EPSILON: f32 = 1e-6;

    fn random(len: usize, key: u64) -> Vec<f32> {
        let draw = |i| Key::new(key).with(i as u64).normal() as f32;
        (0..len).map(draw).collect()
    }

    fn product(a: &[f32], b: &[f32]) -> f64 {
        let terms = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        terms.sum()
    }

    /// Holds `gradient`, that of `slopes . f(x)` by `x`, to differences of `f`.
    fn check(x: &[f32], slopes: &[f32], gradient: &[f32], f: impl Fn(&[f32]) -> Vec<f32>) {
        assert_eq!(x.len(), gradient.len());
        const STEP: f32 = 1e-2;
        let mut moved = x.to_vec();
        for (i, &expected) in gradient.iter().enumerate() {
            let mut at = |step: f32| {
                moved[i] = x[i] + step;
                product(slopes, &f(&moved))
            };
            let slope = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
            moved[i] = x[i];
            let difference = (slope - f64::from(expected)).abs();
            assert!(
                difference < 3e-3 * (1.0 + slope.abs()),
                "{i}: {slope} {expected}"
            );
        }
    }

    #[test]
    fn gradients_of_the_norm_add_derivatives() {
        let (width, rows) = (20, 3);
        let (x, weight, slopes) = (
            random(rows * width, 1),
            random(width, 2),
            random(rows * width, 3),
        );
        let forward = |x: &[f32], weight: &[f32]| {
            let mut y = vec![0.0; x.len()];
            rms_norm(x, weight, EPSILON, &mut y);
            y
        };
        let (mut dx, mut dweight) = (vec![1.0; x.len()], vec![2.0; width]);
        rms_norm_backward(&x, &weight, EPSILON, &slopes, &mut dx, &mut dweight);
        dx.iter_mut().for_each(|d| *d -= 1.0);
        dweight.iter_mut().for_each(|d| *d -= 2.0);
        check(&x, &slopes, &dx, |x| forward(x, &weight));
        check(&weight, &slopes, &dweight, |weight| forward(&x, weight));
    }

    #[test]
    fn gradients_of_head_norms_are_derivatives_and_leave_values_alone() {
        // Two query heads and a key head of width 6, then values.
        let (heads, one, stride, rows) = ([2, 1], 6, 24, 2);
        let (x, weights) = (random(rows * stride, 4), random(2 * one, 5));
        let slopes = random(rows * stride, 6);
        let forward = |x: &[f32], weights: &[f32]| {
            let (mut y, mut raw) = (x.to_vec(), vec![0.0; rows * 3 * one]);
            let weights = [&weights[..one], &weights[one..]];
            head_norms(&mut y, stride, heads, weights, EPSILON, &mut raw);
            (y, raw)
        };
        let (y, raw) = forward(&x, &weights);
        assert_eq!(y[3 * one..stride], x[3 * one..stride]);
        let (mut dx, mut dweights) = (slopes.clone(), vec![0.0; 2 * one]);
        let (dq, dk) = dweights.split_at_mut(one);
        let split = [&weights[..one], &weights[one..]];
        head_norms_backward(&raw, &mut dx, stride, heads, split, EPSILON, [dq, dk]);
        check(&x, &slopes, &dx, |x| forward(x, &weights).0);
        check(&weights, &slopes, &dweights, |weights| {
            forward(&x, weights).0
        });
    }

    #[test]
    fn gradients_of_swiglu_are_derivatives() {
        let (width, rows) = (17, 2);
        let (x, slopes) = (random(2 * rows * width, 7), random(rows * width, 8));
        let mut dx = x.clone();
        swiglu_backward(&mut dx, width, &slopes);
        check(&x, &slopes, &dx, |x| {
            let mut out = vec![0.0; rows * width];
            swiglu(x, width, &mut out);
            out
        });
    }

    #[test]
    fn a_rotation_depends_on_the_distance_alone_and_can_be_undone() {
        let rotary = Rotary::new(&[1.0, 0.3, 0.01], 50);
        assert_eq!(rotary.positions(), 50);
        // A head of six and two values behind it.
        let (a, b) = (random(8, 9), random(8, 10));
        let at = |row: &[f32], position: usize| {
            let mut row = row.to_vec();
            rotary.rotate(&mut row, 8, 6, &[position], 1.0);
            row
        };
        assert_eq!(at(&a, 0), a);
        assert_eq!(at(&a, 31)[6..], a[6..]);
        let score = |i, j| product(&at(&a, i)[..6], &at(&b, j)[..6]);
        assert!((score(20, 3) - score(47, 30)).abs() < 1e-4);
        let mut back = at(&a, 49);
        rotary.rotate(&mut back, 8, 6, &[49], -1.0);
        for (back, a) in back.iter().zip(&a) {
            assert!((back - a).abs() < 1e-5);
        }
    }

    #[test]
    fn many_rows_have_the_bits_of_each_alone() {
        let width = 50;
        let rows = 2 * SERIAL_ELEMENTS / width;
        let (x, weight) = (random(rows * width, 11), random(width, 12));
        let mut together = vec![0.0; x.len()];
        rms_norm(&x, &weight, EPSILON, &mut together);
        for (x, together) in x.chunks_exact(width).zip(together.chunks_exact(width)) {
            let mut alone = vec![0.0; width];
            rms_norm(x, &weight, EPSILON, &mut alone);
            assert_eq!(alone, together);
        }
    }
}
