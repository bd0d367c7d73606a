//! One transformer block over the rows of a pass.

use super::backend::Argument::{self, At, Float, Int};
use super::memory::Work;
use super::state::Pass;
use super::weights::Block;
use crate::decoder::tree::Rows;
use crate::device::DeviceError;
use crate::kernels::attention::Span;

/// Query rows of a tile, and key rows: as the kernels have them.
const TILE: usize = 64;

/// What attention has to go through, on the device.
pub(super) struct Seeing {
    /// Tiles of queries, 7 numbers each.
    pub(super) queries: u64,
    pub(super) query_tiles: usize,
    /// Tiles of keys, 5 numbers each, and who reads them, 3 numbers each.
    pub(super) keys: u64,
    pub(super) readers: u64,
    pub(super) key_tiles: usize,
}

impl Seeing {
    pub(super) fn of(work: &mut Work<'_>, rows: &Rows) -> Result<Self, DeviceError> {
        let (mut queries, mut keys, mut readers) = (Vec::new(), Vec::new(), Vec::new());
        for spans in &rows.groups {
            let trunk = spans.first().map_or(0, |span| span.first);
            for (index, span) in spans.iter().enumerate() {
                for before in (0..span.rows).step_by(TILE) {
                    let (row, count) = (span.first + before, TILE.min(span.rows - before));
                    let tile = [row, count, span.first, before, trunk, span.fork, 0];
                    queries.extend(tile.map(|n| n as i32));
                    let first = readers.len() / 3;
                    readers.extend(reader(span, -1));
                    if index == 0 {
                        let branches = spans[1..].iter().filter(|b| b.fork > before && b.rows > 0);
                        readers.extend(branches.flat_map(|b| reader(b, b.fork as i32)));
                    }
                    let tile = [row, count, before, first, readers.len() / 3 - first];
                    keys.extend(tile.map(|n| n as i32));
                }
            }
        }
        Ok(Self {
            query_tiles: queries.len() / 7,
            key_tiles: keys.len() / 5,
            queries: work.put(&queries)?,
            keys: work.put(&keys)?,
            readers: work.put(&readers)?,
        })
    }
}

fn reader(span: &Span, fork: i32) -> [i32; 3] {
    [span.first as i32, span.rows as i32, fork]
}

/// Pages that keys and values of a pass go to: addresses, where each row's table begins, and its place.
#[derive(Clone, Copy)]
pub(super) struct Paged {
    pub(super) pages: u64,
    pub(super) tables: u64,
    pub(super) places: u64,
    pub(super) layer: usize,
}

/// What the backward pass of a block needs.
#[derive(Clone, Copy)]
pub(super) struct Tape {
    /// Floats, as `middle` and `log_sums`; the others are numbers.
    pub(super) input: u64,
    pub(super) qkv: u64,
    pub(super) raw: u64,
    pub(super) attended: u64,
    pub(super) log_sums: u64,
    pub(super) middle: u64,
    pub(super) gate_up: u64,
}

impl Tape {
    /// The same buffers with another input.
    pub(super) fn on(self, input: u64) -> Self {
        Self { input, ..self }
    }
}

impl Pass<'_> {
    /// Elements of a row of q, k and v.
    pub(super) fn stride(&self) -> usize {
        (self.config.heads + 2 * self.config.kv_heads) * self.config.head_dim
    }

    pub(super) fn query_width(&self) -> usize {
        self.config.heads * self.config.head_dim
    }

    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.config.head_dim as f32).sqrt()
    }

    pub(super) fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    /// Address of a vector among the masters.
    pub(super) fn vector(&self, place: usize) -> Argument {
        At(self.weights.master(place))
    }

    /// Heads and key-value heads, as kernels take them.
    pub(super) fn heads(&self) -> [Argument; 2] {
        [
            Int(self.config.heads as i32),
            Int(self.config.kv_heads as i32),
        ]
    }

    /// Positions as kernels take them, none beyond the tables of sines.
    pub(super) fn positions(
        &self,
        positions: impl Iterator<Item = usize>,
    ) -> Result<Vec<i32>, DeviceError> {
        let most = self.config.max_position_embeddings;
        let checked = positions.map(|position| match position < most {
            true => Ok(position as i32),
            false => Err(DeviceError::Unsupported {
                what: format!(
                    "position {position} is beyond the {most} that the model was made for"
                ),
                remedy: "shorten the prompt or allow fewer new tokens",
            }),
        });
        checked.collect()
    }

    /// Hidden states of tokens.
    pub(super) fn embed(
        &self,
        work: &Work<'_>,
        tokens: u64,
        rows: usize,
        hidden: u64,
    ) -> Result<(), DeviceError> {
        let floats = match self.weights.table {
            0 => self.weights.master(self.weights.embedding),
            _ => 0,
        };
        let width = Int(self.config.hidden_size as i32);
        let arguments = [
            At(tokens),
            At(self.weights.table),
            At(floats),
            width,
            At(hidden),
        ];
        work.backend.launch("embed", [rows, 1], 256, &arguments)
    }

    /// RMS norm of `[rows, hidden_size]` floats into numbers.
    pub(super) fn normalise(
        &self,
        work: &Work<'_>,
        rows: usize,
        x: u64,
        norm: usize,
        y: u64,
    ) -> Result<(), DeviceError> {
        let width = Int(self.config.hidden_size as i32);
        let arguments = [
            At(x),
            self.vector(norm),
            Float(self.epsilon()),
            width,
            At(y),
        ];
        work.backend.launch("rms_norm", [rows, 1], 256, &arguments)
    }

    /// Takes the buffers of a block; `input` has been taken.
    pub(super) fn tape(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        input: u64,
    ) -> Result<Tape, DeviceError> {
        let heads = self.config.heads + self.config.kv_heads;
        Ok(Tape {
            input,
            qkv: work.numbers(rows * self.stride())?,
            raw: match self.config.qk_norm {
                true => work.numbers(rows * heads * self.config.head_dim)?,
                false => 0,
            },
            attended: work.numbers(rows * self.query_width())?,
            log_sums: work.floats(rows * self.config.heads)?,
            middle: work.floats(rows * self.config.hidden_size)?,
            gate_up: work.numbers(rows * 2 * self.config.intermediate_size)?,
        })
    }

    /// Buffers of a pass without a backward pass: `input` runs through all blocks in place.
    pub(super) fn tape_in_place(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        input: u64,
    ) -> Result<Tape, DeviceError> {
        let tape = self.tape(work, rows, input)?;
        Ok(Tape {
            middle: input,
            ..tape
        })
    }

    /// q, k and v of a block's input as attention sees them; also into pages, if there are any.
    pub(super) fn project(
        &self,
        work: &mut Work<'_>,
        block: &Block,
        rows: usize,
        positions: u64,
        tape: &Tape,
        paged: Option<Paged>,
    ) -> Result<(), DeviceError> {
        let mark = work.mark();
        let normed = work.numbers(rows * self.config.hidden_size)?;
        let product = work.floats(rows * self.stride())?;
        self.normalise(work, rows, tape.input, block.input_norm, normed)?;
        block.qkv.apply(work, rows, normed, product, 0.0, true)?;
        let bias = |which: usize| match &block.biases {
            Some(biases) => self.vector(biases[which].start),
            None => At(0),
        };
        let norms = self.head_norms(block);
        let [heads, kv_heads] = self.heads();
        let (pages, tables, places, layer) =
            paged.map_or((0, 0, 0, 0), |p| (p.pages, p.tables, p.places, p.layer));
        work.backend.launch(
            "shape_qkv",
            [rows, 1],
            128,
            &[
                At(product),
                bias(0),
                bias(1),
                bias(2),
                norms[0],
                norms[1],
                Float(self.epsilon()),
                At(self.weights.cosines.at),
                At(self.weights.sines.at),
                At(positions),
                heads,
                kv_heads,
                At(tape.qkv),
                At(tape.raw),
                At(pages),
                At(tables),
                At(places),
                Int(layer as i32),
            ],
        )?;
        work.reset(mark);
        Ok(())
    }

    pub(super) fn head_norms(&self, block: &Block) -> [Argument; 2] {
        match block.head_norms {
            Some(norms) => norms.map(|norm| self.vector(norm)),
            None => [At(0), At(0)],
        }
    }

    /// Attention of queries over rows of the pass, or over pages: of one sequence, `first` tokens of which are
    /// in them before the rows of the pass.
    pub(super) fn attend(
        &self,
        work: &Work<'_>,
        rows: usize,
        tiles: (u64, usize),
        tape: &Tape,
        paged: Option<Paged>,
    ) -> Result<(), DeviceError> {
        let [heads, kv_heads] = self.heads();
        let (pages, layer) = paged.map_or((0, 0), |paged| (paged.pages, paged.layer));
        work.backend.launch(
            "attend",
            [tiles.1, self.config.heads],
            128,
            &[
                At(tape.qkv),
                heads,
                kv_heads,
                At(tiles.0),
                At(pages),
                Int(layer as i32),
                Float(self.scale()),
                Int(rows as i32),
                At(tape.attended),
                At(tape.log_sums),
            ],
        )
    }

    /// Attention of one new token a row over its trunk's and its own pages.
    pub(super) fn attend_decoding(
        &self,
        work: &Work<'_>,
        rows: usize,
        sights: u64,
        tape: &Tape,
        paged: Paged,
    ) -> Result<(), DeviceError> {
        let [heads, kv_heads] = self.heads();
        work.backend.launch(
            "attend_decoding",
            [rows, self.config.kv_heads],
            128,
            &[
                At(tape.qkv),
                heads,
                kv_heads,
                At(sights),
                At(paged.pages),
                Int(paged.layer as i32),
                Float(self.scale()),
                At(tape.attended),
            ],
        )
    }

    /// From attention to the inner width: `middle` and `gate_up` of the tape.
    pub(super) fn inner(
        &self,
        work: &mut Work<'_>,
        block: &Block,
        rows: usize,
        tape: &Tape,
    ) -> Result<(), DeviceError> {
        let hidden = self.config.hidden_size;
        if tape.middle != tape.input {
            work.backend
                .copy(tape.input, tape.middle, 4 * rows * hidden)?;
        }
        block
            .output
            .apply(work, rows, tape.attended, tape.middle, 1.0, true)?;
        let mark = work.mark();
        let normed = work.numbers(rows * hidden)?;
        self.normalise(work, rows, tape.middle, block.middle_norm, normed)?;
        block
            .gate_up
            .apply(work, rows, normed, tape.gate_up, 0.0, false)?;
        work.reset(mark);
        Ok(())
    }

    /// The block's output, into `output`, which may be its input.
    pub(super) fn output(
        &self,
        work: &mut Work<'_>,
        block: &Block,
        rows: usize,
        tape: &Tape,
        output: u64,
    ) -> Result<(), DeviceError> {
        let mark = work.mark();
        let active = self.active(work, rows, tape)?;
        if output != tape.middle {
            work.backend
                .copy(tape.middle, output, 4 * rows * self.config.hidden_size)?;
        }
        block.down.apply(work, rows, active, output, 1.0, true)?;
        work.reset(mark);
        Ok(())
    }

    pub(super) fn active(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        tape: &Tape,
    ) -> Result<u64, DeviceError> {
        let inner = self.config.intermediate_size;
        let active = work.numbers(rows * inner)?;
        let arguments = [At(tape.gate_up), Int(inner as i32), At(active)];
        work.backend
            .launch("swiglu", [rows, inner.div_ceil(256)], 256, &arguments)?;
        Ok(active)
    }

    /// A block over rows of a micro-batch, up to what its backward pass needs.
    pub(super) fn forward(
        &self,
        work: &mut Work<'_>,
        index: usize,
        rows: usize,
        positions: u64,
        seeing: &Seeing,
        tape: &Tape,
    ) -> Result<(), DeviceError> {
        let block = &self.weights.blocks[index];
        self.project(work, block, rows, positions, tape, None)?;
        self.attend(work, rows, (seeing.queries, seeing.query_tiles), tape, None)?;
        self.inner(work, block, rows, tape)
    }
}
