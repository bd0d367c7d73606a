//! Prefill of trunks, one token a branch, and drawing the next tokens, on a device.

use super::backend::Argument::{At, Int};
use super::backend::{Backend, Recording, Rehearsal};
use super::blocks::Paged;
use super::cache::{DevicePages, PagePool, lock_pool};
use super::device::DeviceDecoder;
use super::memory::{Arena, Memory, Work, bytes_of, bytes_of_mut};
use super::scores::rows_at_a_time;
use super::state::{Limits, Pass, State};
use crate::device::DeviceError;
use crate::kernels::matmul::Compute;
use half::bf16;
use std::sync::{Arc, Mutex};

/// Rows of a decoding pass are rounded up to whole runs of this, so that few kinds of passes are taken down.
const ROWS: usize = 16;
/// Query rows of a tile, as the kernel has them.
const TILE: usize = 64;
/// Largest float32 below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

/// One branch's next input.
pub struct DecodeInput<'a> {
    /// The trunk's pages, computed at least up to `fork`.
    pub trunk: &'a DevicePages,
    /// Trunk tokens in front of the branch.
    pub fork: usize,
    /// The branch's own pages; they take in the token.
    pub own: &'a mut DevicePages,
    /// Tokens in them before.
    pub len: usize,
    /// The token sampled last.
    pub token: u32,
}

/// How one token is to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenRequest {
    /// Divisor of the logits, above 0.
    pub temperature: f32,
    /// Where the cumulative probability is inverted, in `[0, 1)`; none takes the likeliest token, of equals the
    /// lowest id.
    pub uniform: Option<f64>,
}

/// A token drawn on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawnToken {
    /// The token.
    pub token: u32,
    /// Its natural-log probability at the temperature; NaN if a logit was not finite.
    pub logprob: f32,
}

/// Decoding passes by their number of rows.
#[derive(Default)]
pub(super) struct DecodingStates {
    passes: Vec<DecodingPass>,
    /// Where rows that fill up a pass write to.
    idle: DevicePages,
}

/// A decoding pass that has been taken down, with the memory it works in.
struct DecodingPass {
    rows: usize,
    /// Places for page addresses.
    addresses: usize,
    memory: Memory,
    recording: Recording,
}

/// What a decoding pass reads, filled up to its number of rows.
struct Inputs {
    rows: usize,
    tokens: Vec<i32>,
    positions: Vec<i32>,
    /// Four numbers a row, as the kernel has them.
    sights: Vec<i32>,
    /// Where each row's own page table begins, and its place in it.
    tables: Vec<i32>,
    places: Vec<i32>,
    pages: Vec<u64>,
}

impl Inputs {
    fn of(rows: &[DecodeInput<'_>], idle: &DevicePages, vocab_size: usize) -> Self {
        let count = rows.len().next_multiple_of(ROWS);
        let mut inputs = Self {
            rows: count,
            tokens: Vec::with_capacity(count),
            positions: Vec::with_capacity(count),
            sights: Vec::with_capacity(4 * count),
            tables: Vec::with_capacity(count),
            places: Vec::with_capacity(count),
            pages: idle.pages.clone(),
        };
        let (mut last, mut trunk): (Option<&DevicePages>, usize) = (None, 0);
        for row in rows {
            if !last.is_some_and(|last| std::ptr::eq(last, row.trunk)) {
                trunk = inputs.pages.len();
                inputs.pages.extend_from_slice(&row.trunk.pages);
                last = Some(row.trunk);
            }
            let own = inputs.pages.len();
            inputs.pages.extend_from_slice(&row.own.pages);
            let known = (row.token as usize) < vocab_size;
            let token = if known { row.token } else { 0 };
            inputs.push(
                token,
                row.fork + row.len,
                [trunk, row.fork, own, row.len + 1],
            );
        }
        while inputs.tokens.len() < count {
            inputs.push(0, 0, [0, 0, 0, 1]);
        }
        inputs
    }

    fn push(&mut self, token: u32, position: usize, sight: [usize; 4]) {
        self.tokens.push(token as i32);
        self.positions.push(position as i32);
        self.sights.extend(sight.map(|n| n as i32));
        self.tables.push(sight[2] as i32);
        self.places.push(sight[3] as i32 - 1);
    }
}

/// Where the inputs of a decoding pass lie on the device.
struct Placed {
    tokens: u64,
    positions: u64,
    sights: u64,
    tables: u64,
    places: u64,
    pages: u64,
}

impl Placed {
    /// Places for so many rows and page addresses, always the same in the same memory.
    fn take(work: &mut Work<'_>, rows: usize, addresses: usize) -> Result<Self, DeviceError> {
        Ok(Self {
            tokens: work.take(4 * rows)?,
            positions: work.take(4 * rows)?,
            sights: work.take(16 * rows)?,
            tables: work.take(4 * rows)?,
            places: work.take(4 * rows)?,
            pages: work.take(8 * addresses)?,
        })
    }

    /// All of them in one copy.
    fn fill(&self, backend: &dyn Backend, inputs: &Inputs) -> Result<(), DeviceError> {
        let parts = [
            (self.tokens, bytes_of(&inputs.tokens)),
            (self.positions, bytes_of(&inputs.positions)),
            (self.sights, bytes_of(&inputs.sights)),
            (self.tables, bytes_of(&inputs.tables)),
            (self.places, bytes_of(&inputs.places)),
            (self.pages, bytes_of(&inputs.pages)),
        ];
        upload_parts(backend, &parts)
    }
}

/// Copies buffers that lie one behind the other, in order, at once.
fn upload_parts(backend: &dyn Backend, parts: &[(u64, &[u8])]) -> Result<(), DeviceError> {
    let Some(&(first, _)) = parts.first() else {
        return Ok(());
    };
    let mut bytes = Vec::new();
    for &(at, part) in parts {
        // Up to where the buffer begins; what lies between is nobody's.
        bytes.resize((at - first) as usize, 0);
        bytes.extend_from_slice(part);
    }
    backend.upload(first, &bytes)
}

impl DecodingStates {
    /// The pass for these inputs; one that is too small is made anew. Where there is no room for it, passes of other
    /// sizes and pages that no sequence has make room.
    fn pass(
        &mut self,
        backend: &Arc<dyn Backend>,
        pool: &Mutex<PagePool>,
        inputs: &Inputs,
        bytes: impl Fn(usize) -> Result<usize, DeviceError>,
    ) -> Result<&mut DecodingPass, DeviceError> {
        let addresses = inputs.pages.len();
        self.passes
            .retain(|pass| pass.rows != inputs.rows || pass.addresses >= addresses);
        let found = self.passes.iter().position(|pass| pass.rows == inputs.rows);
        let index = match found {
            Some(index) => index,
            None => {
                let addresses = addresses.next_power_of_two().max(16 * inputs.rows);
                let bytes = bytes(addresses)?;
                let memory = match Memory::new(backend, bytes) {
                    Err(DeviceError::OutOfMemory { .. }) => {
                        self.passes.clear();
                        lock_pool(pool).release_idle();
                        Memory::new(backend, bytes)
                    }
                    made => made,
                }?;
                self.passes.push(DecodingPass {
                    rows: inputs.rows,
                    addresses,
                    memory,
                    recording: Recording::default(),
                });
                self.passes.len() - 1
            }
        };
        Ok(&mut self.passes[index])
    }

    fn idle(&mut self, pool: &Arc<Mutex<PagePool>>) -> Result<&DevicePages, DeviceError> {
        self.idle.reserve(pool, 1)?;
        Ok(&self.idle)
    }
}

impl DeviceDecoder {
    /// Appends `tokens` to a trunk whose first `before` tokens are in `pages`, and their final normalised hidden
    /// states, `[tokens, hidden_size]`, to `hidden`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`]: nothing is appended, and it may be tried again. [`DeviceError::InvalidInput`] if
    /// `pages` are another decoder's or do not have the tokens before; [`DeviceError::Failed`].
    pub fn prefill(
        &self,
        pages: &mut DevicePages,
        before: usize,
        tokens: &[u32],
        hidden: &mut Vec<f32>,
    ) -> Result<(), DeviceError> {
        if tokens.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        pages.check(&state.pool, before)?;
        state.reserve_pages(pages, before + tokens.len())?;
        let kept = hidden.len();
        let done = state.in_parts(tokens.len(), Limits::prefill, 1, |state, part| {
            let before = before + part.start;
            hidden.extend(self.prefill_part(state, pages, before, &tokens[part])?);
            Ok(())
        });
        if done.is_err() {
            hidden.truncate(kept);
        }
        done
    }

    /// As [`prefill`](Self::prefill), the pages being there.
    fn prefill_part(
        &self,
        state: &mut State,
        pages: &DevicePages,
        before: usize,
        tokens: &[u32],
    ) -> Result<Vec<f32>, DeviceError> {
        let (rows, width) = (tokens.len(), self.config.hidden_size);
        let known = |&token: &u32| match (token as usize) < self.config.vocab_size {
            true => token as i32,
            false => 0,
        };
        let ids: Vec<i32> = tokens.iter().map(known).collect();
        let tile = |row: usize| [row, TILE.min(rows - row), 0, before + row, 0, 0, 0];
        let tiles: Vec<i32> = (0..rows)
            .step_by(TILE)
            .flat_map(tile)
            .map(|n| n as i32)
            .collect();
        let addresses = &pages.pages;
        state.run(&self.config, self.options.recompute, |pass, work| {
            let positions = pass.positions(before..before + rows)?;
            let (ids, positions) = (work.put(&ids)?, work.put(&positions)?);
            let queries = (work.put(&tiles)?, tiles.len() / 7);
            let paged = Paged {
                pages: work.put(addresses)?,
                tables: work.put(&vec![0i32; rows])?,
                places: positions,
                layer: 0,
            };
            let hidden = work.floats(rows * width)?;
            let tape = pass.tape_in_place(work, rows, hidden)?;
            pass.embed(work, ids, rows, hidden)?;
            for (layer, block) in pass.weights.blocks.iter().enumerate() {
                let paged = Some(Paged { layer, ..paged });
                pass.project(work, block, rows, positions, &tape, paged)?;
                pass.attend(work, rows, queries, &tape, paged)?;
                pass.inner(work, block, rows, &tape)?;
                pass.output(work, block, rows, &tape, hidden)?;
            }
            let normed = work.numbers(rows * width)?;
            pass.normalise(work, rows, hidden, pass.weights.final_norm, normed)?;
            read_numbers(work.backend, normed, rows * width)
        })
    }

    /// Runs one token of each branch; `hidden` becomes `[rows, hidden_size]`, final-normed: the states that
    /// predict each branch's next token.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`]: it may be tried again, also with other rows. [`DeviceError::InvalidInput`] if
    /// pages are another decoder's or do not have the tokens before; [`DeviceError::Failed`].
    pub fn decode(
        &self,
        rows: &mut [DecodeInput<'_>],
        hidden: &mut Vec<f32>,
    ) -> Result<(), DeviceError> {
        hidden.clear();
        if rows.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        for row in rows.iter_mut() {
            row.trunk.check(&state.pool, row.fork)?;
            row.own.check(&state.pool, row.len)?;
            state.reserve_pages(row.own, row.len + 1)?;
        }
        state.in_parts(rows.len(), Limits::decoding, ROWS, |state, part| {
            hidden.extend(self.decode_part(state, &rows[part])?);
            Ok(())
        })
    }

    /// As [`decode`](Self::decode), the pages being there.
    fn decode_part(
        &self,
        state: &mut State,
        rows: &[DecodeInput<'_>],
    ) -> Result<Vec<f32>, DeviceError> {
        let idle = state.decoding.idle(&state.pool)?;
        let inputs = Inputs::of(rows, idle, self.config.vocab_size);
        let pass = Pass {
            config: &self.config,
            recompute: self.options.recompute,
            weights: &state.weights,
            gradient: 0,
        };
        pass.positions(inputs.positions.iter().map(|&position| position as usize))?;
        let shape = state.backend.shape();
        let bytes = |addresses: usize| {
            let rehearsal = Rehearsal::new(shape);
            let mut work = Work {
                backend: &rehearsal,
                arena: Arena::endless(),
            };
            let placed = Placed::take(&mut work, inputs.rows, addresses)?;
            pass.decode_rows(&mut work, inputs.rows, &placed)?;
            Ok(work.arena.most())
        };
        let decoding = state
            .decoding
            .pass(&state.backend, &state.pool, &inputs, bytes)?;
        let mut work = Work {
            backend: state.backend.as_ref(),
            arena: Arena::new(&decoding.memory),
        };
        let placed = Placed::take(&mut work, decoding.rows, decoding.addresses)?;
        placed.fill(state.backend.as_ref(), &inputs)?;
        // The same buffers whether the pass is done or repeated.
        let mark = work.mark();
        let normed = work.numbers(inputs.rows * self.config.hidden_size)?;
        state.backend.replay(&mut decoding.recording, &mut || {
            work.reset(mark);
            pass.decode_rows(&mut work, inputs.rows, &placed).map(drop)
        })?;
        let count = rows.len() * self.config.hidden_size;
        read_numbers(state.backend.as_ref(), normed, count)
    }

    /// Logits of final-normed hidden states: `[rows, hidden_size]` to `[rows, vocab_size]`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Failed`].
    pub fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>) -> Result<(), DeviceError> {
        let (width, vocab) = (self.config.hidden_size, self.config.vocab_size);
        logits.clear();
        let mut state = self.lock();
        state.in_parts(hidden.len() / width, Limits::logits, 1, |state, part| {
            let hidden = &hidden[part.start * width..part.end * width];
            let own = state.run(&self.config, self.options.recompute, |pass, work| {
                let floats = work.put(hidden)?;
                let at = pass.project_vocabulary(work, floats, part.len())?;
                let mut own = vec![0.0f32; part.len() * vocab];
                work.backend.download(at, bytes_of_mut(&mut own))?;
                Ok(own)
            })?;
            logits.extend_from_slice(&own);
            Ok(())
        })
    }

    /// Runs the products of a forward pass over `rows` rows and nothing else, and waits for them.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Failed`].
    pub fn run_products(&self, rows: usize) -> Result<(), DeviceError> {
        let most = rows.min(rows_at_a_time(self.config.vocab_size));
        let mut state = self.lock();
        state.run(&self.config, self.options.recompute, |pass, work| {
            let blocks = &pass.weights.blocks;
            let linears = blocks
                .iter()
                .flat_map(|b| [&b.qkv, &b.output, &b.gate_up, &b.down]);
            let deepest = linears
                .clone()
                .map(|linear| linear.depth)
                .max()
                .unwrap_or(0);
            let widest = linears.clone().map(|linear| linear.out).max().unwrap_or(0);
            let head = &pass.weights.head;
            let x = work.numbers(rows * deepest.max(head.depth))?;
            let y = work.floats((rows * widest).max(most * head.out))?;
            work.backend
                .clear(x, rows * deepest.max(head.depth) * work.shape().number())?;
            for linear in linears {
                linear.apply(work, rows, x, y, 0.0, true)?;
            }
            for first in (0..rows).step_by(most.max(1)) {
                head.apply(work, most.min(rows - first), x, y, 0.0, true)?;
            }
            work.backend.download(y, &mut [])
        })
    }

    /// Draws a token for each of final-normed hidden states, `[rows, hidden_size]`: its cumulative distribution,
    /// in the order of token ids, is inverted at the request's number, in float32.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`]: it may be tried again. [`DeviceError::Failed`].
    pub fn draw(
        &self,
        hidden: &[f32],
        requests: &[TokenRequest],
    ) -> Result<Vec<DrawnToken>, DeviceError> {
        let width = self.config.hidden_size;
        let mut drawn = Vec::with_capacity(requests.len());
        let mut state = self.lock();
        state.in_parts(requests.len(), Limits::logits, 1, |state, part| {
            let hidden = &hidden[part.start * width..part.end * width];
            drawn.extend(self.draw_part(state, hidden, &requests[part])?);
            Ok(())
        })?;
        Ok(drawn)
    }

    fn draw_part(
        &self,
        state: &mut State,
        hidden: &[f32],
        requests: &[TokenRequest],
    ) -> Result<Vec<DrawnToken>, DeviceError> {
        let vocab = self.config.vocab_size;
        let inverses: Vec<f32> = requests.iter().map(|r| 1.0 / r.temperature).collect();
        let uniform = |r: &TokenRequest| r.uniform.map_or(-1.0, |u| (u as f32).min(BELOW_ONE));
        let uniforms: Vec<f32> = requests.iter().map(uniform).collect();
        let rows = requests.len();
        let words = state.run(&self.config, self.options.recompute, |pass, work| {
            let floats = work.floats(hidden.len())?;
            let [inverse, uniform] = [work.floats(rows)?, work.floats(rows)?];
            let parts = [(floats, hidden), (inverse, &inverses), (uniform, &uniforms)];
            upload_parts(work.backend, &parts.map(|(at, part)| (at, bytes_of(part))))?;
            let logits = pass.project_vocabulary(work, floats, rows)?;
            // Tokens, then log-probs.
            let drawn = work.take(8 * rows)?;
            let arguments = [logits, inverse, uniform, drawn, drawn + 4 * rows as u64].map(At);
            let [logits, inverse, uniform, ids, found] = arguments;
            work.backend.launch(
                "draw",
                [rows, 1],
                1024,
                &[logits, Int(vocab as i32), inverse, uniform, ids, found],
            )?;
            let mut words = vec![0i32; 2 * rows];
            work.backend.download(drawn, bytes_of_mut(&mut words))?;
            Ok(words)
        })?;
        let (ids, found) = words.split_at(rows);
        let token = |(&token, &logprob): (&i32, &i32)| DrawnToken {
            token: token as u32,
            logprob: f32::from_bits(logprob as u32),
        };
        Ok(ids.iter().zip(found).map(token).collect())
    }
}

impl Pass<'_> {
    /// One token of each row, up to the final norm, whose buffer is the first that is taken.
    fn decode_rows(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        placed: &Placed,
    ) -> Result<u64, DeviceError> {
        let width = self.config.hidden_size;
        let normed = work.numbers(rows * width)?;
        let hidden = work.floats(rows * width)?;
        let tape = self.tape_in_place(work, rows, hidden)?;
        self.embed(work, placed.tokens, rows, hidden)?;
        for (layer, block) in self.weights.blocks.iter().enumerate() {
            let paged = Paged {
                pages: placed.pages,
                tables: placed.tables,
                places: placed.places,
                layer,
            };
            self.project(work, block, rows, placed.positions, &tape, Some(paged))?;
            self.attend_decoding(work, rows, placed.sights, &tape, paged)?;
            self.inner(work, block, rows, &tape)?;
            self.output(work, block, rows, &tape, hidden)?;
        }
        self.normalise(work, rows, hidden, self.weights.final_norm, normed)?;
        Ok(normed)
    }

    /// Logits (floats) of hidden states, which are floats too.
    fn project_vocabulary(
        &self,
        work: &mut Work<'_>,
        floats: u64,
        rows: usize,
    ) -> Result<u64, DeviceError> {
        let numbers = self.rounded(work, floats, rows * self.config.hidden_size)?;
        let logits = work.floats(rows * self.config.vocab_size)?;
        self.weights
            .head
            .apply(work, rows, numbers, logits, 0.0, true)?;
        Ok(logits)
    }
}

/// Numbers of a device as floats.
fn read_numbers(backend: &dyn Backend, at: u64, count: usize) -> Result<Vec<f32>, DeviceError> {
    if backend.shape().compute == Compute::F32 {
        let mut floats = vec![0.0f32; count];
        backend.download(at, bytes_of_mut(&mut floats))?;
        return Ok(floats);
    }
    let mut bytes = vec![0u8; 2 * count];
    backend.download(at, &mut bytes)?;
    let numbers = bytes.as_chunks::<2>().0.iter();
    Ok(numbers
        .map(|&pair| bf16::from_ne_bytes(pair).to_f32())
        .collect())
}
