//! Outputs of attention: for runs of rows of one sequence, and for one row of each of many branches.

use super::{Ahead, Blocks, Heads, Left, Sight, Weights, gather, mix, scale_rows, scores};
use crate::kernels::Shared;
use crate::kernels::buffers::Buffer;
use crate::kernels::matmul::amx;

/// Work memory of a task.
#[derive(Default)]
pub(crate) struct Scratch {
    queries: Buffer,
    weights: Weights,
    out: Buffer,
    /// Queries and weights in bfloat16.
    rounded: Rounded,
}

#[derive(Default)]
struct Rounded {
    queries: Buffer,
    trunk: Buffer,
    own: Buffer,
}

/// Copies `[rows * per_kv, width]` results to their rows.
///
/// # Safety
/// The rows lie in the buffer, and the calling task alone touches this head's columns of them.
unsafe fn scatter(heads: Heads, kv_head: usize, results: &[f32], out: Shared<f32>) {
    let own = heads.per_kv * heads.width;
    for (i, row) in results.chunks_exact(own).enumerate() {
        // SAFETY: the caller's promise.
        unsafe { out.slice(i * heads.query_width() + kv_head * own, own) }.copy_from_slice(row);
    }
}

/// Attention of `rows` rows that follow each other in one sequence, for the queries of one key-value
/// head. `queries` starts at the first row (`[.., stride]`), `out` at the first row of the output
/// (`[rows, heads * width]`).
///
/// # Safety
/// The output rows lie in the buffer, and the calling task alone touches the head's columns of them.
pub(crate) unsafe fn sequence(
    heads: Heads,
    kv_head: usize,
    queries: &[f32],
    rows: usize,
    sight: Sight<'_>,
    scratch: &mut Scratch,
    out: Shared<f32>,
) {
    let (width, stride, count) = (heads.width, heads.row_width(), rows * heads.per_kv);
    let _session = amx::Session::open(heads.unit());
    gather(
        heads,
        kv_head,
        queries,
        stride,
        rows,
        heads.scale(),
        &mut scratch.queries,
    );
    let Scratch {
        queries,
        weights,
        out: results,
        rounded,
    } = scratch;
    let left = Left::of(heads, queries, width, count, width, &mut rounded.queries);
    weights.compute(heads, left, rows, sight);
    results.reset_to_zeros(queries.len());
    let mut add = |weights: &[f32], blocks, reach: usize, rounded| {
        let weights = Left::of(heads, weights, reach, count, reach, rounded);
        mix(weights, width, blocks, reach, Ahead::NOTHING, results);
    };
    let reach = sight.reach(rows);
    add(&weights.trunk, sight.trunk, sight.fork, &mut rounded.trunk);
    add(&weights.own, sight.own, reach, &mut rounded.own);
    scale_rows(results, width, &weights.factors);
    // SAFETY: the caller's promise.
    unsafe { scatter(heads, kv_head, results, out) };
}

/// What the newest token of a branch sees.
#[derive(Clone, Copy)]
pub(crate) struct BranchQueries<'a> {
    /// Trunk positions it sees.
    pub(crate) fork: usize,
    /// Its own blocks.
    pub(crate) own: Blocks<'a>,
    /// Own positions, itself included.
    pub(crate) len: usize,
}

/// Attention of one row each of branches of one trunk, for the queries of one key-value head: the queries
/// of all branches meet the trunk's keys in one product. `queries` and `out` as in [`sequence`], one row
/// a branch.
///
/// # Safety
/// As [`sequence`].
pub(crate) unsafe fn branches(
    heads: Heads,
    kv_head: usize,
    queries: &[f32],
    trunk: Blocks<'_>,
    branches: &[BranchQueries<'_>],
    scratch: &mut Scratch,
    out: Shared<f32>,
) {
    let (width, per_kv) = (heads.width, heads.per_kv);
    let reach = branches.iter().map(|branch| branch.fork).max().unwrap_or(0);
    let stride = heads.row_width();
    gather(
        heads,
        kv_head,
        queries,
        stride,
        branches.len(),
        heads.scale(),
        &mut scratch.queries,
    );
    let Scratch {
        queries,
        weights,
        out: results,
        rounded,
    } = scratch;
    let _session = amx::Session::open(heads.unit());
    let count = branches.len() * per_kv;
    let left = Left::of(heads, queries, width, count, width, &mut rounded.queries);
    let rounds = matches!(left, Left::Pairs(_));
    weights.factors.clear();
    weights.trunk.reset(count * reach);
    let own_of = |index: usize| branches.get(index).map(|branch| branch.own);
    scores(
        left,
        count,
        width,
        trunk,
        reach,
        Ahead::of(own_of(0), 0),
        &mut weights.trunk,
        reach,
    );
    results.reset_to_zeros(queries.len());
    // Own scores first, because the softmax needs both parts; weights of trunk positions behind a
    // branch's fork become 0, which leaves sums as they are.
    let lengths = branches.iter().map(|branch| branch.len).sum::<usize>();
    weights.own.reset(per_kv * lengths);
    let mut first = 0;
    for (i, branch) in branches.iter().enumerate() {
        let own = &mut weights.own[first..first + per_kv * branch.len];
        scores(
            left.at_row(i * per_kv),
            per_kv,
            width,
            branch.own,
            branch.len,
            Ahead::of(own_of(i + 1), 0),
            own,
            branch.len,
        );
        for (h, own) in own.chunks_exact_mut(branch.len).enumerate() {
            let at = (i * per_kv + h) * reach;
            let (seen, hidden) = weights.trunk[at..at + reach].split_at_mut(branch.fork);
            Weights::weigh(rounds, &mut weights.factors, seen, own);
            hidden.fill(0.0);
        }
        first += per_kv * branch.len;
    }
    let values = heads.values();
    let ahead = Ahead::of(own_of(0), values);
    let of_trunk = Left::of(
        heads,
        &weights.trunk,
        reach,
        count,
        reach,
        &mut rounded.trunk,
    );
    mix(of_trunk, width, trunk, reach, ahead, results);
    let mut first = 0;
    let all = results.chunks_exact_mut(per_kv * width);
    for (i, (branch, results)) in branches.iter().zip(all).enumerate() {
        let own = &weights.own[first..first + per_kv * branch.len];
        let ahead = Ahead::of(own_of(i + 1), values);
        let len = branch.len;
        let own = Left::of(heads, own, len, per_kv, len, &mut rounded.own);
        mix(own, width, branch.own, len, ahead, results);
        first += per_kv * len;
    }
    scale_rows(results, width, &weights.factors);
    // SAFETY: the caller's promise.
    unsafe { scatter(heads, kv_head, results, out) };
}
