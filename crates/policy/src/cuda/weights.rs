//! A model's weights on a device: the float32 masters in one flat buffer as [`Layout`] has it, and in bfloat16
//! a rounded copy of what products read.

use super::backend::{Argument, Backend, Matrix, Product};
use super::memory::{Memory, Work, bytes_of};
use crate::config::ModelConfig;
use crate::device::DeviceError;
use crate::kernels::matmul::Compute;
use crate::parameters::Layout;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Where a linear begins in the rounded copy: on multiples of so many numbers.
const ALIGNMENT: usize = 128;

/// Rows of a projection that lie one behind the other.
struct Part {
    /// First number.
    weight: u64,
    /// First row of the projection.
    row: usize,
    rows: usize,
}

/// Projections `[out_i, depth]` of one input, as one product where they lie together.
pub(super) struct Linear {
    pub(super) out: usize,
    pub(super) depth: usize,
    parts: Vec<Part>,
    /// (place in the flat buffer, first row, rows).
    masters: Vec<(usize, usize, usize)>,
}

impl Linear {
    /// `y[rows, out] = x * weight^T + beta * y`, `y` being floats or numbers.
    pub(super) fn apply(
        &self,
        work: &Work<'_>,
        rows: usize,
        x: u64,
        y: u64,
        beta: f32,
        floats: bool,
    ) -> Result<(), DeviceError> {
        let width = if floats { 4 } else { work.shape().number() };
        for part in &self.parts {
            work.backend.product(&Product {
                m: rows,
                n: part.rows,
                k: self.depth,
                a: plain(x, self.depth),
                b: Matrix {
                    transposed: true,
                    ..plain(part.weight, self.depth)
                },
                beta,
                c: y + (part.row * width) as u64,
                c_stride: self.out,
                c_floats: floats,
            })?;
        }
        Ok(())
    }

    /// `dx = dy * weight` (numbers), and adds `dy^T * x` to the flat buffer `gradient`.
    pub(super) fn backward(
        &self,
        work: &Work<'_>,
        rows: usize,
        dy: u64,
        x: u64,
        gradient: u64,
        dx: u64,
    ) -> Result<(), DeviceError> {
        let number = work.shape().number();
        for (index, part) in self.parts.iter().enumerate() {
            work.backend.product(&Product {
                m: rows,
                n: self.depth,
                k: part.rows,
                a: plain(dy + (part.row * number) as u64, self.out),
                b: plain(part.weight, self.depth),
                beta: if index == 0 { 0.0 } else { 1.0 },
                c: dx,
                c_stride: self.depth,
                c_floats: false,
            })?;
        }
        for &(offset, row, count) in &self.masters {
            work.backend.product(&Product {
                m: count,
                n: self.depth,
                k: rows,
                a: Matrix {
                    transposed: true,
                    ..plain(dy + (row * number) as u64, self.out)
                },
                b: plain(x, self.depth),
                beta: 1.0,
                c: gradient + 4 * offset as u64,
                c_stride: self.depth,
                c_floats: true,
            })?;
        }
        Ok(())
    }
}

fn plain(at: u64, stride: usize) -> Matrix {
    Matrix {
        at,
        stride,
        transposed: false,
    }
}

/// Weights of one block; vectors by their place in the flat buffer.
pub(super) struct Block {
    pub(super) input_norm: usize,
    /// q, k and v.
    pub(super) qkv: Linear,
    pub(super) biases: Option<[Range<usize>; 3]>,
    /// Head norms of q and k.
    pub(super) head_norms: Option<[usize; 2]>,
    pub(super) output: Linear,
    pub(super) middle_norm: usize,
    /// Gate and up.
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
}

/// A tensor as the optimizer meets it.
pub(super) struct Tensor {
    pub(super) range: Range<usize>,
    /// Matrices decay, norms and biases do not.
    pub(super) decays: bool,
    /// Its rounded copy; 0 if it has none.
    pub(super) copy: u64,
}

/// All weights of a model.
pub(super) struct Weights {
    pub(super) masters: Memory,
    /// Numbers that products read, where they are not the masters.
    _copies: Option<Memory>,
    pub(super) tensors: Vec<Tensor>,
    pub(super) blocks: Vec<Block>,
    pub(super) final_norm: usize,
    pub(super) head: Linear,
    /// The embedding's place in the flat buffer.
    pub(super) embedding: usize,
    /// The embedding as numbers, where it is the output projection; else 0.
    pub(super) table: u64,
    /// Of every (position, pair).
    pub(super) cosines: Memory,
    pub(super) sines: Memory,
}

impl Weights {
    /// Room for them; [`update`](Self::update) fills it.
    pub(super) fn new(
        backend: &Arc<dyn Backend>,
        config: &ModelConfig,
        layout: &Layout,
    ) -> Result<Self, DeviceError> {
        let masters = Memory::new(backend, layout.len() * size_of::<f32>())?;
        let rounds = backend.shape().compute == Compute::Bf16;
        let mut copied = Vec::new();
        let mut linears = Linears {
            layout,
            rounds,
            // In bfloat16 offsets at first: the copy's address is not known yet.
            first: if rounds { 0 } else { masters.at },
            taken: 0,
            copies: HashMap::new(),
        };
        let range = |name: &str| {
            let spec = layout.find(name);
            spec.expect("a layout made from the configuration has every tensor of it")
                .range()
        };
        let hidden = config.hidden_size;
        let mut blocks = Vec::with_capacity(config.layers);
        for block in 0..config.layers {
            let name = |rest: &str| format!("model.layers.{block}.{rest}");
            let weight = |rest: &str| name(&format!("{rest}_proj.weight"));
            let mut linear = |names: &[&str], depth: usize| {
                let names: Vec<String> = names.iter().map(|name| weight(name)).collect();
                linears.linear(&names, depth)
            };
            blocks.push(Block {
                input_norm: range(&name("input_layernorm.weight")).start,
                qkv: linear(&["self_attn.q", "self_attn.k", "self_attn.v"], hidden),
                biases: config.qkv_bias.then(|| {
                    ["q", "k", "v"].map(|p| range(&name(&format!("self_attn.{p}_proj.bias"))))
                }),
                head_norms: config.qk_norm.then(|| {
                    ["q", "k"].map(|p| range(&name(&format!("self_attn.{p}_norm.weight"))).start)
                }),
                output: linear(&["self_attn.o"], config.heads * config.head_dim),
                middle_norm: range(&name("post_attention_layernorm.weight")).start,
                gate_up: linear(&["mlp.gate", "mlp.up"], hidden),
                down: linear(&["mlp.down"], config.intermediate_size),
            });
        }
        let embedding = "model.embed_tokens.weight";
        let head = if config.tied {
            embedding
        } else {
            "lm_head.weight"
        };
        let mut head = linears.linear(&[head.to_owned()], hidden);
        let (taken, places) = (linears.taken, linears.copies);
        let copies = match rounds {
            true => Some(Memory::zeros(backend, taken * backend.shape().number())?),
            false => None,
        };
        let copy = copies.as_ref().map_or(0, |copies| copies.at);
        if rounds {
            let all = blocks
                .iter_mut()
                .flat_map(|b| [&mut b.qkv, &mut b.output, &mut b.gate_up, &mut b.down])
                .chain([&mut head]);
            all.flat_map(|linear| &mut linear.parts)
                .for_each(|part| part.weight += copy);
        }
        for spec in layout.tensors() {
            copied.push(Tensor {
                range: spec.range(),
                decays: spec.shape.len() > 1,
                copy: places.get(&spec.name).map_or(0, |place| copy + place),
            });
        }
        let (sines, cosines) = turns(config);
        Ok(Self {
            masters,
            _copies: copies,
            tensors: copied,
            blocks,
            final_norm: range("model.norm.weight").start,
            embedding: range(embedding).start,
            table: if config.tied { head.parts[0].weight } else { 0 },
            head,
            cosines: Memory::of(backend, &cosines)?,
            sines: Memory::of(backend, &sines)?,
        })
    }

    /// Takes over new values.
    pub(super) fn update(
        &mut self,
        backend: &dyn Backend,
        values: &[f32],
    ) -> Result<(), DeviceError> {
        self.masters.check_size(values)?;
        backend.upload(self.masters.at, bytes_of(values))?;
        self.round(backend)
    }

    /// Makes the rounded copies anew.
    fn round(&mut self, backend: &dyn Backend) -> Result<(), DeviceError> {
        for tensor in self.tensors.iter().filter(|tensor| tensor.copy != 0) {
            let count = tensor.range.len();
            backend.launch(
                "round_weights",
                [count.div_ceil(256), 1],
                256,
                &[
                    Argument::At(self.master(tensor.range.start)),
                    Argument::Long(count as i64),
                    Argument::At(tensor.copy),
                ],
            )?;
        }
        Ok(())
    }

    /// Address of the master weight at a place of the flat buffer.
    pub(super) fn master(&self, place: usize) -> u64 {
        self.masters.at + 4 * place as u64
    }
}

/// Sines and cosines of every (position, pair).
fn turns(config: &ModelConfig) -> (Vec<f32>, Vec<f32>) {
    let frequencies = config.rope_inverse_frequencies();
    let angles = (0..config.max_position_embeddings)
        .flat_map(|p| frequencies.iter().map(move |&f| p as f64 * f64::from(f)));
    angles
        .map(|angle| (angle.sin() as f32, angle.cos() as f32))
        .unzip()
}

/// Finds places for projections.
struct Linears<'a> {
    layout: &'a Layout,
    rounds: bool,
    first: u64,
    /// Numbers of the rounded copy that are spoken for.
    taken: usize,
    /// Bytes from the copy's beginning, by name.
    copies: HashMap<String, u64>,
}

impl Linears<'_> {
    fn linear(&mut self, names: &[String], depth: usize) -> Linear {
        let mut linear = Linear {
            out: 0,
            depth,
            parts: Vec::new(),
            masters: Vec::new(),
        };
        self.taken = self.taken.next_multiple_of(ALIGNMENT);
        for name in names {
            let spec = self.layout.find(name);
            let range = spec
                .expect("a layout made from the configuration has every tensor of it")
                .range();
            let rows = range.len() / depth;
            let weight = if self.rounds {
                let place = 2 * self.taken as u64;
                self.copies.insert(name.clone(), place);
                self.taken += range.len();
                place
            } else {
                self.first + 4 * range.start as u64
            };
            let number = if self.rounds { 2 } else { 4 };
            match linear.parts.last_mut() {
                Some(last) if last.weight + (number * last.rows * depth) as u64 == weight => {
                    last.rows += rows;
                }
                _ => linear.parts.push(Part {
                    weight,
                    row: linear.out,
                    rows,
                }),
            }
            match linear.masters.last_mut() {
                Some((offset, _, count)) if *offset + *count * depth == range.start => {
                    *count += rows;
                }
                _ => linear.masters.push((range.start, linear.out, rows)),
            }
            linear.out += rows;
        }
        linear
    }
}
