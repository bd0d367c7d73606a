//! Matrices and vectors, with the little arithmetic that answers use.
use super::prepare::Items;
use super::{Judge, Outcome};
use crate::fuel::Stop;
use crate::tree::{Node, NodeId};
use crate::verdict::Reason;

/// Larger matrices are not compared.
const MAX_ENTRIES: usize = 1024;

struct Entries {
    columns: usize,
    entries: Vec<NodeId>,
}

impl Judge<'_> {
    /// Compares two matrices entry by entry; `None` when neither side is one.
    pub(super) fn matrices(
        &mut self,
        gold: NodeId,
        answer: NodeId,
    ) -> Result<Option<Outcome>, Stop> {
        let (g, a) = (self.matrix(gold)?, self.matrix(answer)?);
        let (g, a) = match (g, a) {
            (None, None) => return Ok(None),
            (Some(g), Some(a)) => (g, a),
            _ => return Ok(Some(Outcome::Unequal(Reason::DifferentKind))),
        };
        if g.columns != a.columns || g.entries.len() != a.entries.len() {
            return Ok(Some(Outcome::Unequal(Reason::DifferentParts)));
        }
        for (x, y) in g.entries.iter().zip(&a.entries) {
            if !self.item(*x, *y)? {
                return Ok(Some(Outcome::Unequal(Reason::DifferentParts)));
            }
        }
        Ok(Some(Outcome::Equal(Reason::SameParts)))
    }

    /// The entries of a matrix, a multiple, a sum or a difference of matrices.
    fn matrix(&mut self, id: NodeId) -> Result<Option<Entries>, Stop> {
        self.fuel.spend(1)?;
        match self.tree.node(id) {
            Node::Matrix {
                columns,
                kids,
                determinant: false,
            } => {
                let entries = self.tree.kids(kids);
                if entries.len() > MAX_ENTRIES {
                    return Ok(None);
                }
                Ok(Some(Entries {
                    columns: columns as usize,
                    entries: entries.to_vec(),
                }))
            }
            Node::Neg(inner) => {
                let Some(mut matrix) = self.matrix(inner)? else {
                    return Ok(None);
                };
                for entry in &mut matrix.entries {
                    *entry = self.tree.push(Node::Neg(*entry));
                }
                Ok(Some(matrix))
            }
            Node::Div(inner, divisor) => {
                let Some(mut matrix) = self.matrix(inner)? else {
                    return Ok(None);
                };
                for entry in &mut matrix.entries {
                    *entry = self.tree.push(Node::Div(*entry, divisor));
                }
                Ok(Some(matrix))
            }
            Node::Mul(kids) => {
                let kids = Items::from_slice(self.tree.kids(kids));
                let (mut matrix, mut scalars) = (None, Items::new());
                for kid in kids {
                    match (self.matrix(kid)?, &matrix) {
                        (Some(found), None) => matrix = Some(found),
                        // Products of matrices are not computed.
                        (Some(_), Some(_)) => return Ok(None),
                        (None, _) => scalars.push(kid),
                    }
                }
                let Some(mut matrix) = matrix else {
                    return Ok(None);
                };
                for entry in &mut matrix.entries {
                    let mut factors = scalars.clone();
                    factors.push(*entry);
                    *entry = self.tree.mul(&factors);
                }
                Ok(Some(matrix))
            }
            Node::Add(kids) => {
                let kids = Items::from_slice(self.tree.kids(kids));
                let mut sum: Option<Entries> = None;
                for kid in kids {
                    let Some(term) = self.matrix(kid)? else {
                        return Ok(None);
                    };
                    sum = Some(match sum {
                        None => term,
                        Some(mut sum)
                            if sum.columns == term.columns
                                && sum.entries.len() == term.entries.len() =>
                        {
                            for (entry, other) in sum.entries.iter_mut().zip(&term.entries) {
                                *entry = self.tree.add(&[*entry, *other]);
                            }
                            sum
                        }
                        Some(_) => return Ok(None),
                    });
                }
                Ok(sum)
            }
            _ => Ok(None),
        }
    }
}
