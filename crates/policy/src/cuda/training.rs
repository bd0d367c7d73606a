//! The whole pass over a micro-batch of groups on a device: scores of every predicted token, and gradients.

use super::backend::Argument::{At, Int};
use super::blocks::{Seeing, Tape};
use super::decoding::DecodingStates;
use super::device::DeviceDecoder;
use super::memory::Work;
use super::state::{Pass, State};
use crate::config::ModelConfig;
use crate::decoder::tree::{Rows, TreeGroup};
use crate::decoder::{ScoreGradients, TokenScores};
use crate::device::DeviceError;

/// Buffers of a forward pass that its backward pass reads.
struct Forward {
    positions: u64,
    seeing: Seeing,
    /// One of every block; blocks that do not keep share one set of buffers beside their inputs.
    tapes: Vec<Tape>,
    first_kept: usize,
    hidden: u64,
    normed: u64,
}

/// Refuses groups whose rows or tokens a kernel would look for outside its buffers.
fn check_groups(groups: &[TreeGroup<'_>], config: &ModelConfig) -> Result<(), DeviceError> {
    let invalid = |what: String| Err(DeviceError::InvalidInput { what });
    for group in groups {
        let (prompt, trunk) = (group.prompt_tokens, group.trunk.len());
        if prompt == 0 || prompt > trunk {
            return invalid(format!(
                "a trunk of {trunk} tokens has a prompt of {prompt}"
            ));
        }
        for branch in &group.branches {
            if branch.fork == 0 || branch.fork > trunk {
                return invalid(format!(
                    "a branch forks after {} tokens of a trunk of {trunk}",
                    branch.fork
                ));
            }
        }
        let branches = group.branches.iter().flat_map(|branch| branch.tokens);
        let mut tokens = group.trunk.iter().chain(branches);
        if let Some(token) = tokens.find(|&&token| token as usize >= config.vocab_size) {
            return invalid(format!(
                "token {token} is outside the vocabulary of {}; encode with the model's own tokenizer",
                config.vocab_size
            ));
        }
    }
    Ok(())
}

impl DeviceDecoder {
    /// Log-probs and entropies of every slot, forward only; as
    /// [`Decoder::evaluate`](crate::decoder::Decoder::evaluate).
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if the device has no room for so many rows; [`DeviceError::InvalidInput`] for
    /// groups that are not as [`TreeGroup`] says, or tokens outside the vocabulary; [`DeviceError::Failed`].
    pub fn evaluate(
        &self,
        groups: &[TreeGroup<'_>],
        temperature: f32,
    ) -> Result<TokenScores, DeviceError> {
        check_groups(groups, &self.config)?;
        let rows = Rows::of(groups);
        let mut state = self.lock();
        state.run(&self.config, self.options.recompute, |pass, work| {
            let hidden = work.floats(rows.tokens.len() * self.config.hidden_size)?;
            let tape = pass.tape_in_place(work, rows.tokens.len(), hidden)?;
            let tapes = vec![tape; self.config.layers];
            let forward = pass.forward_all(work, &rows, tapes, hidden)?;
            let targets = (rows.targets.as_slice(), rows.slots);
            pass.score(work, forward.normed, targets, temperature)
        })
    }

    /// Sees to it that there is the work memory for [`train`](Self::train) on these groups.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if there is not: train on fewer groups at a time. [`DeviceError::InvalidInput`] as
    /// in [`evaluate`](Self::evaluate).
    pub fn reserve(&self, groups: &[TreeGroup<'_>]) -> Result<(), DeviceError> {
        check_groups(groups, &self.config)?;
        self.reserve_rows(&mut self.lock(), &Rows::of(groups))
    }

    /// As [`reserve`](Self::reserve), for whoever holds the lock until the memory is used.
    fn reserve_rows(&self, state: &mut State, rows: &Rows) -> Result<(), DeviceError> {
        let reserve = |state: &mut State| {
            state.rehearse(&self.config, self.options.recompute, |pass, work| {
                let forward = pass.forward_kept(work, rows)?;
                let targets = (rows.targets.as_slice(), rows.slots);
                pass.score(work, forward.normed, targets, 1.0)?;
                pass.backward_all(work, rows, &forward, &ScoreGradients::default(), 1.0)
            })
        };
        match reserve(state) {
            Err(DeviceError::OutOfMemory { .. }) => {
                // Decoding takes its passes down anew when it is their turn.
                state.decoding = DecodingStates::default();
                reserve(state)
            }
            reserved => reserved,
        }
    }

    /// Forward, `loss` (given the scores, returns their gradients), backward: adds the gradient of the loss by
    /// every parameter to the decoder's own. As [`Decoder::train`](crate::decoder::Decoder::train), which says
    /// what is kept.
    ///
    /// # Errors
    /// Whatever `loss` returns, [`DeviceError::OutOfMemory`], and [`DeviceError::InvalidInput`] as in
    /// [`evaluate`](Self::evaluate): nothing has been added to the gradient then. [`DeviceError::Failed`]; the decoder
    /// cannot go on.
    ///
    /// # Panics
    /// If the decoder was not made to be trained.
    pub fn train<E: From<DeviceError>>(
        &self,
        groups: &[TreeGroup<'_>],
        temperature: f32,
        loss: impl FnOnce(&TokenScores) -> Result<ScoreGradients, E>,
    ) -> Result<TokenScores, E> {
        check_groups(groups, &self.config)?;
        let rows = Rows::of(groups);
        let mut state = self.lock();
        assert!(
            state.learning.is_some(),
            "the decoder was not made to be trained"
        );
        self.reserve_rows(&mut state, &rows)?;
        let pass = state.pass(&self.config, self.options.recompute);
        let mut work = state.work();
        let forward = pass.forward_kept(&mut work, &rows)?;
        let targets = (rows.targets.as_slice(), rows.slots);
        let scores = pass.score(&mut work, forward.normed, targets, temperature)?;
        let slopes = loss(&scores)?;
        pass.backward_all(&mut work, &rows, &forward, &slopes, temperature)?;
        Ok(scores)
    }
}

impl Pass<'_> {
    /// The forward pass, every block keeping what its backward pass needs or its input, as settings say.
    fn forward_kept(&self, work: &mut Work<'_>, rows: &Rows) -> Result<Forward, DeviceError> {
        let (layers, width) = (self.config.layers, self.config.hidden_size);
        let count = rows.tokens.len();
        let inputs = (0..=layers).map(|_| work.floats(count * width));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let mark = work.mark();
        let shared = self.tape(work, count, inputs[0])?;
        let tape_bytes = work.mark() - mark;
        let first_kept = layers - self.recompute.kept(layers, tape_bytes);
        let mut tapes = Vec::with_capacity(layers);
        for (block, &input) in inputs[..layers].iter().enumerate() {
            tapes.push(match block < first_kept || block == 0 {
                true => shared.on(input),
                false => self.tape(work, count, input)?,
            });
        }
        Ok(Forward {
            first_kept,
            ..self.forward_all(work, rows, tapes, inputs[layers])?
        })
    }

    /// The forward pass; a block's output becomes the next one's input, that of the last is `last`.
    fn forward_all(
        &self,
        work: &mut Work<'_>,
        rows: &Rows,
        tapes: Vec<Tape>,
        last: u64,
    ) -> Result<Forward, DeviceError> {
        let count = rows.tokens.len();
        let tokens: Vec<i32> = rows.tokens.iter().map(|&token| token as i32).collect();
        let positions = self.positions(rows.positions.iter().copied())?;
        let (tokens, positions) = (work.put(&tokens)?, work.put(&positions)?);
        let seeing = Seeing::of(work, rows)?;
        let first = tapes.first().map_or(last, |tape| tape.input);
        self.embed(work, tokens, count, first)?;
        for (block, tape) in tapes.iter().enumerate() {
            self.forward(work, block, count, positions, &seeing, tape)?;
            let output = tapes.get(block + 1).map_or(last, |next| next.input);
            self.output(work, &self.weights.blocks[block], count, tape, output)?;
        }
        let normed = work.numbers(count * self.config.hidden_size)?;
        self.normalise(work, count, last, self.weights.final_norm, normed)?;
        Ok(Forward {
            positions,
            seeing,
            tapes,
            first_kept: 0,
            hidden: last,
            normed,
        })
    }

    fn backward_all(
        &self,
        work: &mut Work<'_>,
        rows: &Rows,
        forward: &Forward,
        slopes: &ScoreGradients,
        temperature: f32,
    ) -> Result<(), DeviceError> {
        let (count, width) = (rows.tokens.len(), self.config.hidden_size);
        let dhidden = work.floats(count * width)?;
        let mark = work.mark();
        let dnormed = work.numbers(count * width)?;
        let mut given = [slopes.logprobs.clone(), slopes.entropies.clone()];
        given
            .iter_mut()
            .for_each(|slopes| slopes.resize(rows.slots, 0.0));
        let slopes = [work.put(&given[0])?, work.put(&given[1])?];
        work.backend
            .clear(dnormed, count * width * work.shape().number())?;
        let targets = (rows.targets.as_slice(), rows.slots);
        self.score_backward(work, forward.normed, targets, temperature, slopes, dnormed)?;
        work.backend.clear(dhidden, 4 * count * width)?;
        let norm = self.weights.final_norm;
        self.norm_backward(work, count, forward.hidden, norm, dnormed, dhidden)?;
        work.reset(mark);
        let (positions, seeing) = (forward.positions, &forward.seeing);
        for (block, tape) in forward.tapes.iter().enumerate().rev() {
            // The buffers that blocks share hold those of the last that used them.
            if block < forward.first_kept {
                self.forward(work, block, count, positions, seeing, tape)?;
            }
            self.backward(work, block, count, positions, seeing, tape, dhidden)?;
        }
        self.embed_backward(work, &rows.tokens, dhidden)
    }

    /// Adds the gradient of every token's embedding, its rows in order.
    fn embed_backward(
        &self,
        work: &mut Work<'_>,
        tokens: &[u32],
        dhidden: u64,
    ) -> Result<(), DeviceError> {
        let mut order: Vec<i32> = (0..tokens.len() as i32).collect();
        order.sort_by_key(|&row| tokens[row as usize]);
        let (mut ids, mut firsts) = (Vec::new(), Vec::new());
        for (at, &row) in order.iter().enumerate() {
            let token = tokens[row as usize] as i32;
            if ids.last() != Some(&token) {
                ids.push(token);
                firsts.push(at as i32);
            }
        }
        firsts.push(order.len() as i32);
        let mark = work.mark();
        let places = [work.put(&ids)?, work.put(&firsts)?, work.put(&order)?].map(At);
        let table = self.gradient + 4 * self.weights.embedding as u64;
        let width = Int(self.config.hidden_size as i32);
        work.backend.launch(
            "embed_backward",
            [ids.len(), 1],
            256,
            &[
                At(dhidden),
                places[0],
                places[1],
                places[2],
                width,
                At(table),
            ],
        )?;
        work.reset(mark);
        Ok(())
    }
}
