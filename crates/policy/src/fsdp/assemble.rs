//! One tensor from what every process holds of it.

use super::objects::{Held, Local};
use super::region::{NotWhole, Region, check_cover};
use crate::weights::{FoundTensor, Piece};
use std::collections::BTreeMap;

/// What is wrong with a tensor, and the rank in whose file it is. The text continues "tensor `x`".
pub(super) type Problem = (usize, String);

/// A tensor from what the ranks, in order, hold of it. `expected` is the shape that the configuration calls
/// for: plain tensors do not say whether each is the whole.
pub(super) fn assemble(held: &[&Held], expected: &[usize]) -> Result<FoundTensor, Problem> {
    let shape = shape(held, expected)?;
    let shares = shares(held, &shape)?;
    let encoding = same_encoding(&shares)?;
    // By region; more than one process may hold the same.
    let mut holders: BTreeMap<&Region, Vec<(usize, &Local)>> = BTreeMap::new();
    for (rank, region, local) in &shares {
        if region.len() > 0 {
            holders.entry(region).or_default().push((*rank, local));
        }
    }
    let regions: Vec<&Region> = holders.keys().copied().collect();
    check_cover(&regions, &shape).map_err(|problem| match problem {
        NotWhole::Gap => (
            0,
            format!("of shape {shape:?} is not whole: no rank holds some of its values"),
        ),
        NotWhole::Overlap(first, second) => {
            let rank = |region| holders[regions[region]][0].0;
            let problem = format!(
                "of shape {shape:?}: ranks {} and {} hold parts that overlap",
                rank(first),
                rank(second)
            );
            (rank(second), problem)
        }
    })?;
    let (mut pieces, mut replicas) = (Vec::new(), Vec::new());
    for (region, ranks) in &holders {
        for (index, (rank, local)) in ranks.iter().enumerate() {
            let piece = piece(*rank, region, local, &shape).ok_or_else(|| {
                let problem = format!("has strides {:?}, which are not supported", local.strides);
                (*rank, problem)
            })?;
            match index {
                0 => pieces.push(piece),
                _ => replicas.push(piece),
            }
        }
    }
    Ok(FoundTensor {
        file: 0,
        encoding,
        shape,
        pieces,
        replicas,
    })
}

/// The shape of the whole tensor.
fn shape(held: &[&Held], expected: &[usize]) -> Result<Vec<usize>, Problem> {
    let mut whole: Option<Vec<usize>> = None;
    let mut rows = Vec::new();
    for (rank, held) in held.iter().enumerate() {
        let shape = match held {
            Held::Distributed { shape, .. } | Held::Sharded { shape, .. } => shape,
            Held::Plain(local) => {
                rows.push(&local.shape);
                continue;
            }
        };
        let first = whole.get_or_insert_with(|| shape.clone());
        if first != shape {
            return Err((rank, format!("has shape {shape:?}, in rank 0 {first:?}")));
        }
    }
    match (whole, rows.first()) {
        (Some(shape), None) => Ok(shape),
        (None, Some(_)) if rows.iter().all(|shape| **shape == expected) => Ok(expected.to_vec()),
        (None, Some(first)) => {
            for (rank, shape) in rows.iter().enumerate() {
                if shape.is_empty() || shape.get(1..) != first.get(1..) {
                    let problem = format!(
                        "has shape {shape:?}, which does not go together with {first:?} of rank 0"
                    );
                    return Err((rank, problem));
                }
            }
            let sum = rows
                .iter()
                .map(|shape| shape[0])
                .try_fold(0, usize::checked_add);
            let mut shape = (*first).clone();
            let whole = sum.filter(|sum| {
                let rest = shape[1..].iter().product::<usize>();
                sum.checked_mul(rest).is_some()
            });
            shape[0] = whole.ok_or_else(|| (0, "has more rows than any memory".to_owned()))?;
            Ok(shape)
        }
        _ => Err((0, "is a plain tensor in some ranks only".to_owned())),
    }
}

/// Rank, place in the whole, and numbers of every share.
fn shares<'a>(
    held: &[&'a Held],
    shape: &[usize],
) -> Result<Vec<(usize, Region, &'a Local)>, Problem> {
    let mesh = mesh(held);
    let mut shares = Vec::new();
    let mut rows_before = 0;
    for (rank, held) in held.iter().enumerate() {
        let mut add = |region: Option<Region>, local: &'a Local| {
            let region = region.filter(|region| region.sizes() == local.shape);
            let region = region.ok_or_else(|| {
                let problem = format!(
                    "has a part of shape {:?}, which does not fit its place in {shape:?}",
                    local.shape
                );
                (rank, problem)
            })?;
            shares.push((rank, region, local));
            Ok(())
        };
        match held {
            Held::Plain(local) if local.shape == shape => {
                add(Region::at(&vec![0; shape.len()], shape, shape), local)?;
            }
            Held::Plain(local) => {
                let mut offsets = vec![0; shape.len()];
                if let (Some(offset), Some(rows)) = (offsets.first_mut(), local.shape.first()) {
                    *offset = rows_before;
                    rows_before += rows;
                }
                add(Region::at(&offsets, &local.shape, shape), local)?;
            }
            Held::Distributed {
                placements,
                coordinates,
                local,
                ..
            } => add(Region::share(shape, placements, coordinates, &mesh), local)?,
            Held::Sharded { shards, .. } => {
                for (offsets, local) in shards {
                    add(Region::at(offsets, &local.shape, shape), local)?;
                }
            }
        }
    }
    Ok(shares)
}

/// Shape of the mesh that all coordinates lie in.
fn mesh(held: &[&Held]) -> Vec<usize> {
    let mut mesh = Vec::new();
    for held in held {
        if let Held::Distributed { coordinates, .. } = held {
            mesh.resize(mesh.len().max(coordinates.len()), 1);
            for (size, coordinate) in mesh.iter_mut().zip(coordinates) {
                *size = (*size).max(coordinate.saturating_add(1));
            }
        }
    }
    mesh
}

fn same_encoding(
    shares: &[(usize, Region, &Local)],
) -> Result<Result<crate::encoding::Encoding, String>, Problem> {
    let Some((_, _, first)) = shares.first() else {
        return Err((0, "is held by no rank".to_owned()));
    };
    match shares
        .iter()
        .find(|(_, _, local)| local.encoding != first.encoding)
    {
        None => Ok(first.encoding.clone()),
        Some((rank, ..)) => Err((
            *rank,
            "is stored in another number type than in rank 0".into(),
        )),
    }
}

/// Where the numbers of a region lie; `None` where they are stored column by column.
fn piece(file: usize, region: &Region, local: &Local, shape: &[usize]) -> Option<Piece> {
    let (rows, columns) = region.rows_and_columns()?;
    let width = *shape.last()?;
    let stored_stride = match local.strides[..] {
        [_] => columns.len(),
        [stride, _] => stride,
        _ => return None,
    };
    if *local.strides.last()? != 1 && columns.len() > 1 {
        return None;
    }
    let (run, runs, stored_stride) =
        if columns.len() == width && (stored_stride == width || rows.len() == 1) {
            // Whole rows, one after another.
            let len = rows.len() * width;
            (len, 1, len)
        } else {
            (columns.len(), rows.len(), stored_stride)
        };
    Some(Piece {
        file,
        offset: local.offset,
        first: rows.start * width + columns.start,
        run,
        runs,
        stride: if runs == 1 { run } else { width },
        stored_stride,
    })
}
