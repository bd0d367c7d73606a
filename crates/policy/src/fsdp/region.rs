//! Where the share of one process lies in a whole tensor.

use std::ops::Range;

/// Dimensions of a tensor, at most: matrices and vectors are all that a decoder has.
pub(super) const DIMENSIONS: usize = 2;

/// How a tensor is laid over one dimension of the mesh of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// Cut along this dimension of the tensor, as `torch.chunk` does.
    Shard(usize),
    /// Whole everywhere.
    Replicate,
}

/// A range of indices in each dimension of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Region(pub(super) Vec<(usize, usize)>);

impl Region {
    /// A region by where it begins and its sizes; `None` if it leaves the shape.
    pub(super) fn at(offsets: &[usize], sizes: &[usize], shape: &[usize]) -> Option<Self> {
        let fits = |((offset, size), whole): ((&usize, &usize), &usize)| {
            let end = offset.checked_add(*size).filter(|end| end <= whole)?;
            Some((*offset, end))
        };
        if offsets.len() != shape.len() || sizes.len() != shape.len() {
            return None;
        }
        let ranges: Option<Vec<_>> = offsets.iter().zip(sizes).zip(shape).map(fits).collect();
        ranges.map(Self)
    }

    /// The share of the process at `coordinates` in a mesh of shape `mesh`. Cuts along the same dimension
    /// are made one after another, in the order of the mesh's dimensions. `None` if a placement names a
    /// dimension that the tensor does not have.
    pub(super) fn share(
        shape: &[usize],
        placements: &[Placement],
        coordinates: &[usize],
        mesh: &[usize],
    ) -> Option<Self> {
        let mut ranges: Vec<(usize, usize)> = shape.iter().map(|size| (0, *size)).collect();
        for ((placement, coordinate), count) in placements.iter().zip(coordinates).zip(mesh) {
            if let Placement::Shard(dimension) = placement {
                let (start, end) = ranges.get_mut(*dimension)?;
                // All shares but the last ones have this size; those may be smaller or empty.
                let size = (*end - *start).div_ceil(*count);
                let first = start.saturating_add(size.saturating_mul(*coordinate));
                (*start, *end) = (first.min(*end), first.saturating_add(size).min(*end));
            }
        }
        Some(Self(ranges))
    }

    pub(super) fn sizes(&self) -> Vec<usize> {
        self.0.iter().map(|(start, end)| end - start).collect()
    }

    /// Values in it.
    pub(super) fn len(&self) -> usize {
        self.sizes().iter().product()
    }

    /// As rows and columns; a vector is one row.
    pub(super) fn rows_and_columns(&self) -> Option<(Range<usize>, Range<usize>)> {
        match self.0[..] {
            [(start, end)] => Some((0..1, start..end)),
            [rows, columns] => Some((rows.0..rows.1, columns.0..columns.1)),
            _ => None,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let apart = |(a, b): (&(usize, usize), &(usize, usize))| a.1 <= b.0 || b.1 <= a.0;
        !self.0.iter().zip(&other.0).any(apart)
    }
}

/// Why some regions are not a whole tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotWhole {
    /// Values that none of them has.
    Gap,
    /// Values that two different ones have; by their places in the list.
    Overlap(usize, usize),
}

/// Checks that regions, sorted and all different, hold every value of a tensor once.
pub(super) fn check_cover(regions: &[&Region], shape: &[usize]) -> Result<(), NotWhole> {
    for (first, region) in regions.iter().enumerate() {
        let later = regions.iter().enumerate().skip(first + 1);
        // Those further on begin even later in the first dimension.
        let near = later.take_while(|(_, other)| match (region.0.first(), other.0.first()) {
            (Some(a), Some(b)) => b.0 < a.1,
            _ => true,
        });
        for (second, other) in near {
            if region.overlaps(other) {
                return Err(NotWhole::Overlap(first, second));
            }
        }
    }
    let held: usize = regions.iter().map(|region| region.len()).sum();
    if held == shape.iter().product::<usize>() {
        Ok(())
    } else {
        Err(NotWhole::Gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Placement::{Replicate, Shard};

    fn shares(shape: &[usize], placements: &[Placement], mesh: &[usize]) -> Vec<Region> {
        let count: usize = mesh.iter().product();
        (0..count)
            .map(|rank| {
                let mut rest = rank;
                let mut coordinates = vec![0; mesh.len()];
                for (coordinate, size) in coordinates.iter_mut().zip(mesh).rev() {
                    (*coordinate, rest) = (rest % size, rest / size);
                }
                Region::share(shape, placements, &coordinates, mesh).unwrap()
            })
            .collect()
    }

    #[test]
    fn rows_are_cut_as_torch_chunk_cuts_them_with_empty_shares_at_the_end() {
        let rows: Vec<_> = shares(&[5, 3], &[Shard(0)], &[4])
            .iter()
            .map(|region| region.0[0])
            .collect();
        assert_eq!(rows, [(0, 2), (2, 4), (4, 5), (5, 5)]);
    }

    #[test]
    fn shares_of_every_mesh_are_whole_together() {
        let cases: [(&[Placement], &[usize]); 6] = [
            (&[Shard(0)], &[3]),
            (&[Shard(1)], &[4]),
            (&[Shard(0), Shard(1)], &[2, 3]),
            (&[Shard(0), Shard(0)], &[2, 2]),
            (&[Shard(1), Shard(0), Shard(1)], &[2, 2, 2]),
            (&[Replicate, Shard(0)], &[2, 3]),
        ];
        for (placements, mesh) in cases {
            let mut all = shares(&[7, 5], placements, mesh);
            all.sort();
            all.dedup();
            let regions: Vec<&Region> = all.iter().filter(|region| region.len() > 0).collect();
            assert_eq!(check_cover(&regions, &[7, 5]), Ok(()), "{placements:?}");
            assert_eq!(check_cover(&regions[1..], &[7, 5]), Err(NotWhole::Gap));
        }
    }

    #[test]
    fn values_held_by_two_are_noticed() {
        let shape = [4, 4];
        let region = |rows, columns| Region(vec![rows, columns]);
        let both = [&region((0, 3), (0, 4)), &region((2, 4), (0, 4))];
        assert_eq!(check_cover(&both, &shape), Err(NotWhole::Overlap(0, 1)));
        assert_eq!(Region::at(&[3, 0], &[2, 4], &shape), None);
        assert_eq!(Region::at(&[usize::MAX, 0], &[2, 4], &shape), None);
    }
}
