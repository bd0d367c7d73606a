//! Log-probs and entropies of given tokens from hidden states on a device, and their gradient, in chunks of
//! rows, so that a tokens x vocabulary matrix never exists.

use super::backend::Argument::{At, Float, Int};
use super::memory::{Work, bytes_of_mut};
use super::state::Pass;
use crate::decoder::TokenScores;
use crate::device::DeviceError;

/// Logits that exist at one time (256 MiB); whole rows, at least [`LEAST_ROWS`].
const LOGITS: usize = 1 << 26;
/// Rows that make up for reading the output projection.
const LEAST_ROWS: usize = 256;

/// Rows whose logits exist at one time.
pub(super) fn rows_at_a_time(vocab_size: usize) -> usize {
    (LOGITS / vocab_size.max(1)).max(LEAST_ROWS)
}

/// Predicting rows that are scored together, with what each predicts, on the device.
struct Chunk {
    rows: usize,
    /// Rows among all of the pass.
    places: u64,
    /// Where each row's targets begin; their tokens; their slots.
    targets: [u64; 3],
    /// Numbers: the rows' normed hidden states.
    inputs: u64,
    logits: u64,
    log_sums: u64,
    entropies: u64,
}

impl Pass<'_> {
    /// Calls `visit` with every chunk of predicting rows, its logits computed and their log-probs and entropies
    /// (floats, by slot) written.
    fn chunks(
        &self,
        work: &mut Work<'_>,
        normed: u64,
        targets: &[(usize, u32, usize)],
        temperature: f32,
        scores: [u64; 2],
        mut visit: impl FnMut(&mut Work<'_>, &Chunk) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let (width, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let most = rows_at_a_time(vocab);
        let mut rest = targets;
        while !rest.is_empty() {
            let mark = work.mark();
            let (mut rows, mut firsts): (Vec<i32>, Vec<i32>) = (Vec::new(), Vec::new());
            let mut end = 0;
            for &(row, _, _) in rest {
                if rows.last() != Some(&(row as i32)) {
                    if rows.len() == most {
                        break;
                    }
                    rows.push(row as i32);
                    firsts.push(end as i32);
                }
                end += 1;
            }
            firsts.push(end as i32);
            let (own, later) = rest.split_at(end);
            rest = later;
            let tokens: Vec<i32> = own.iter().map(|&(_, token, _)| token as i32).collect();
            let slots: Vec<i32> = own.iter().map(|&(_, _, slot)| slot as i32).collect();
            let chunk = Chunk {
                rows: rows.len(),
                places: work.put(&rows)?,
                targets: [work.put(&firsts)?, work.put(&tokens)?, work.put(&slots)?],
                inputs: work.numbers(rows.len() * width)?,
                logits: work.floats(rows.len() * vocab)?,
                log_sums: work.floats(rows.len())?,
                entropies: work.floats(rows.len())?,
            };
            let arguments = [
                At(normed),
                At(chunk.places),
                Int(width as i32),
                At(chunk.inputs),
            ];
            work.backend
                .launch("gather_rows", [chunk.rows, 1], 256, &arguments)?;
            let head = &self.weights.head;
            head.apply(work, chunk.rows, chunk.inputs, chunk.logits, 0.0, true)?;
            let [firsts, tokens, slots] = chunk.targets.map(At);
            work.backend.launch(
                "score_rows",
                [chunk.rows, 1],
                1024,
                &[
                    At(chunk.logits),
                    Int(vocab as i32),
                    Float(1.0 / temperature),
                    firsts,
                    tokens,
                    slots,
                    At(chunk.log_sums),
                    At(chunk.entropies),
                    At(scores[0]),
                    At(scores[1]),
                ],
            )?;
            visit(work, &chunk)?;
            work.reset(mark);
        }
        Ok(())
    }

    /// Log-probs and entropies of every slot.
    pub(super) fn score(
        &self,
        work: &mut Work<'_>,
        normed: u64,
        (targets, slots): (&[(usize, u32, usize)], usize),
        temperature: f32,
    ) -> Result<TokenScores, DeviceError> {
        let mark = work.mark();
        let scores = [work.floats(slots)?, work.floats(slots)?];
        self.chunks(work, normed, targets, temperature, scores, |_, _| Ok(()))?;
        let mut found = TokenScores {
            logprobs: vec![0.0; slots],
            entropies: vec![0.0; slots],
        };
        work.backend
            .download(scores[0], bytes_of_mut(&mut found.logprobs))?;
        work.backend
            .download(scores[1], bytes_of_mut(&mut found.entropies))?;
        work.reset(mark);
        Ok(found)
    }

    /// Gradient of the scores: writes that of the normed hidden states to `dnormed` (numbers, zero before) and
    /// adds that of the output projection to the flat gradient. `slopes` are floats by slot.
    pub(super) fn score_backward(
        &self,
        work: &mut Work<'_>,
        normed: u64,
        (targets, slots): (&[(usize, u32, usize)], usize),
        temperature: f32,
        slopes: [u64; 2],
        dnormed: u64,
    ) -> Result<(), DeviceError> {
        let (width, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let mark = work.mark();
        let scores = [work.floats(slots)?, work.floats(slots)?];
        self.chunks(work, normed, targets, temperature, scores, |work, chunk| {
            let dlogits = work.numbers(chunk.rows * vocab)?;
            let dinputs = work.numbers(chunk.rows * width)?;
            let [firsts, tokens, slots] = chunk.targets.map(At);
            work.backend.launch(
                "logits_gradient",
                [chunk.rows, 1],
                1024,
                &[
                    At(chunk.logits),
                    Int(vocab as i32),
                    Float(1.0 / temperature),
                    firsts,
                    tokens,
                    slots,
                    At(chunk.log_sums),
                    At(chunk.entropies),
                    At(slopes[0]),
                    At(slopes[1]),
                    At(dlogits),
                ],
            )?;
            let factors = (dlogits, chunk.inputs);
            self.linear_backward(work, &self.weights.head, chunk.rows, factors, dinputs)?;
            let arguments = [
                At(dinputs),
                At(chunk.places),
                Int(width as i32),
                At(dnormed),
            ];
            work.backend
                .launch("scatter_rows", [chunk.rows, 1], 256, &arguments)
        })?;
        work.reset(mark);
        Ok(())
    }
}
