//! The gradient of a transformer block.

use super::backend::Argument::{self, At, Float, Int};
use super::blocks::{Seeing, Tape};
use super::memory::Work;
use super::state::Pass;
use super::weights::{Block, Linear};
use crate::device::DeviceError;

/// Rows whose shares of a sum are one part, as the kernel has it.
const ROWS_PER_PART: usize = 128;

impl Pass<'_> {
    /// Gradient of a block: `dhidden` (floats), that of its output, becomes that of its input; those of its
    /// weights are added to the flat gradient. The tape is used up.
    #[expect(
        clippy::too_many_arguments,
        reason = "a gradient with all it is made of"
    )]
    pub(super) fn backward(
        &self,
        work: &mut Work<'_>,
        index: usize,
        rows: usize,
        positions: u64,
        seeing: &Seeing,
        tape: &Tape,
        dhidden: u64,
    ) -> Result<(), DeviceError> {
        let block = &self.weights.blocks[index];
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let begin = work.mark();
        let (normed, dnormed) = (work.numbers(rows * hidden)?, work.numbers(rows * hidden)?);
        // Feed-forward half.
        let mark = work.mark();
        let dy = self.rounded(work, dhidden, rows * hidden)?;
        let active = self.active(work, rows, tape)?;
        let dactive = work.numbers(rows * inner)?;
        block
            .down
            .backward(work, rows, dy, active, self.gradient, dactive)?;
        let arguments = [At(tape.gate_up), Int(inner as i32), At(dactive)];
        let grid = [rows, inner.div_ceil(256)];
        work.backend
            .launch("swiglu_backward", grid, 256, &arguments)?;
        self.normalise(work, rows, tape.middle, block.middle_norm, normed)?;
        let gate_up = &block.gate_up;
        gate_up.backward(work, rows, tape.gate_up, normed, self.gradient, dnormed)?;
        work.reset(mark);
        self.norm_backward(work, rows, tape.middle, block.middle_norm, dnormed, dhidden)?;
        // Attention half.
        let dqkv = work.numbers(rows * self.stride())?;
        let mark = work.mark();
        let dattended = work.numbers(rows * self.query_width())?;
        let dy = self.rounded(work, dhidden, rows * hidden)?;
        block
            .output
            .backward(work, rows, dy, tape.attended, self.gradient, dattended)?;
        let shaped = work.floats(rows * self.stride())?;
        self.attend_backward(work, rows, seeing, tape, dattended, shaped)?;
        self.unshape(work, block, rows, positions, tape, shaped, dqkv)?;
        work.reset(mark);
        self.normalise(work, rows, tape.input, block.input_norm, normed)?;
        block
            .qkv
            .backward(work, rows, dqkv, normed, self.gradient, dnormed)?;
        self.norm_backward(work, rows, tape.input, block.input_norm, dnormed, dhidden)?;
        work.reset(begin);
        Ok(())
    }

    /// Floats as numbers; where numbers are floats, themselves.
    pub(super) fn rounded(
        &self,
        work: &mut Work<'_>,
        x: u64,
        count: usize,
    ) -> Result<u64, DeviceError> {
        if work.shape().number() == size_of::<f32>() {
            return Ok(x);
        }
        let y = work.numbers(count)?;
        let arguments = [At(x), Argument::Long(count as i64), At(y)];
        work.backend
            .launch("round_weights", [count.div_ceil(256), 1], 256, &arguments)?;
        Ok(y)
    }

    /// Adds the gradient of an RMS norm to `dx`, and that of its weight to the flat gradient.
    pub(super) fn norm_backward(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        x: u64,
        norm: usize,
        dy: u64,
        dx: u64,
    ) -> Result<(), DeviceError> {
        let width = self.config.hidden_size;
        let mark = work.mark();
        let inverses = work.floats(rows)?;
        work.backend.launch(
            "rms_norm_backward",
            [rows, 1],
            256,
            &[
                At(x),
                self.vector(norm),
                Float(self.epsilon()),
                Int(width as i32),
                At(dy),
                At(dx),
                At(inverses),
            ],
        )?;
        let parts = self.sum_rows(work, rows, width, dy, (x, inverses))?;
        self.add_parts(work, rows, (parts, width), (1, width), norm)?;
        work.reset(mark);
        Ok(())
    }

    /// Sums over rows of `dy`, times a float's share each if there is one, in parts of so many rows.
    fn sum_rows(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        width: usize,
        dy: u64,
        (x, inverses): (u64, u64),
    ) -> Result<u64, DeviceError> {
        let count = rows.div_ceil(ROWS_PER_PART);
        let parts = work.floats(count * width)?;
        work.backend.launch(
            "sum_rows",
            [width.div_ceil(32), count],
            256,
            &[
                At(dy),
                At(x),
                At(inverses),
                Int(rows as i32),
                Int(width as i32),
                At(parts),
            ],
        )?;
        Ok(parts)
    }

    /// Adds parts of sums over rows (so many floats each) to a place of the flat gradient: `repeats` runs of
    /// `width` one behind the other.
    fn add_parts(
        &self,
        work: &Work<'_>,
        rows: usize,
        (parts, stride): (u64, usize),
        (repeats, width): (usize, usize),
        place: usize,
    ) -> Result<(), DeviceError> {
        work.backend.launch(
            "add_parts",
            [width.div_ceil(256), 1],
            256,
            &[
                At(parts),
                Int(rows.div_ceil(ROWS_PER_PART) as i32),
                Int(stride as i32),
                Int(repeats as i32),
                Int(width as i32),
                At(self.gradient + 4 * place as u64),
            ],
        )
    }

    /// The gradient of attention by q, k and v, `[rows, stride]` floats.
    fn attend_backward(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        seeing: &Seeing,
        tape: &Tape,
        dattended: u64,
        dqkv: u64,
    ) -> Result<(), DeviceError> {
        let [heads, kv_heads] = self.heads();
        let (all, scale) = (Int(rows as i32), Float(self.scale()));
        let mark = work.mark();
        let deltas = work.floats(rows * self.config.heads)?;
        let parts = work.floats(2 * rows * self.query_width())?;
        work.backend.launch(
            "attend_backward_queries",
            [seeing.query_tiles, self.config.heads],
            128,
            &[
                At(tape.qkv),
                heads,
                kv_heads,
                At(seeing.queries),
                scale,
                all,
                At(tape.attended),
                At(dattended),
                At(tape.log_sums),
                At(deltas),
                At(dqkv),
            ],
        )?;
        work.backend.launch(
            "attend_backward_keys",
            [seeing.key_tiles, self.config.heads],
            128,
            &[
                At(tape.qkv),
                heads,
                kv_heads,
                At(seeing.keys),
                At(seeing.readers),
                scale,
                all,
                At(dattended),
                At(tape.log_sums),
                At(deltas),
                At(parts),
            ],
        )?;
        let arguments = [At(parts), heads, kv_heads, all, At(dqkv)];
        work.backend
            .launch("sum_heads", [rows, 1], 128, &arguments)?;
        work.reset(mark);
        Ok(())
    }

    /// From the gradient of q, k and v as attention sees them to that of the projections' outputs, with those
    /// of biases and head norms.
    #[expect(
        clippy::too_many_arguments,
        reason = "a gradient with all it is made of"
    )]
    fn unshape(
        &self,
        work: &mut Work<'_>,
        block: &Block,
        rows: usize,
        positions: u64,
        tape: &Tape,
        shaped: u64,
        dqkv: u64,
    ) -> Result<(), DeviceError> {
        let mark = work.mark();
        let (d, stride) = (self.config.head_dim, self.stride());
        let normed = (self.config.heads + self.config.kv_heads) * d;
        let slopes = match block.head_norms {
            Some(_) => work.numbers(rows * normed)?,
            None => 0,
        };
        let norms = self.head_norms(block);
        let [heads, kv_heads] = self.heads();
        work.backend.launch(
            "unshape_qkv",
            [rows, 1],
            128,
            &[
                At(shaped),
                At(tape.raw),
                norms[0],
                norms[1],
                Float(self.epsilon()),
                At(self.weights.cosines.at),
                At(self.weights.sines.at),
                At(positions),
                heads,
                kv_heads,
                At(dqkv),
                At(slopes),
            ],
        )?;
        if let Some([q, k]) = block.head_norms {
            let parts = self.sum_rows(work, rows, normed, slopes, (0, 0))?;
            self.add_parts(work, rows, (parts, normed), (self.config.heads, d), q)?;
            let keys = parts + 4 * self.query_width() as u64;
            self.add_parts(work, rows, (keys, normed), (self.config.kv_heads, d), k)?;
        }
        if let Some(biases) = &block.biases {
            let parts = self.sum_rows(work, rows, stride, dqkv, (0, 0))?;
            let mut first = 0;
            for bias in biases {
                let own = parts + 4 * first as u64;
                self.add_parts(work, rows, (own, stride), (1, bias.len()), bias.start)?;
                first += bias.len();
            }
        }
        work.reset(mark);
        Ok(())
    }

    /// Gradient of a projection of the output: as [`Linear::backward`], into the flat gradient.
    pub(super) fn linear_backward(
        &self,
        work: &Work<'_>,
        linear: &Linear,
        rows: usize,
        (dy, x): (u64, u64),
        dx: u64,
    ) -> Result<(), DeviceError> {
        linear.backward(work, rows, dy, x, self.gradient, dx)
    }
}
