//! Groups of one trunk and its branches, flattened into rows.

use crate::kernels::attention::Span;

/// One problem's tokens: the trunk is prompt and reference solution, the branches were sampled from it.
#[derive(Clone, Debug)]
pub struct TreeGroup<'a> {
    /// Prompt, then as much of the solution as any branch forks from (or as is trained).
    pub trunk: &'a [u32],
    /// Tokens at the trunk's beginning that are not predicted: the prompt, or the whole trunk where another group
    /// with the same trunk predicts its tokens. At least 1.
    pub prompt_tokens: usize,
    /// Branches.
    pub branches: Vec<TreeBranch<'a>>,
}

/// The sequence `trunk[..fork] ++ tokens`.
#[derive(Clone, Copy, Debug)]
pub struct TreeBranch<'a> {
    /// Trunk tokens in front, `1..=trunk.len()`.
    pub fork: usize,
    /// Sampled tokens; may be empty.
    pub tokens: &'a [u32],
}

impl TreeGroup<'_> {
    /// Predicted tokens: the trunk's beyond the prompt, then each branch's.
    pub fn slots(&self) -> usize {
        self.trunk.len() - self.prompt_tokens
            + self.branches.iter().map(|b| b.tokens.len()).sum::<usize>()
    }

    /// Rows that run through the model: the trunk and every branch without its last token, which
    /// predicts nothing.
    pub fn rows(&self) -> usize {
        self.trunk.len()
            + self
                .branches
                .iter()
                .map(|b| b.tokens.len().saturating_sub(1))
                .sum::<usize>()
    }
}

/// Rows, spans and slots of a micro-batch.
pub(crate) struct Rows {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<usize>,
    /// Trunk and branches of each group, trunk first.
    pub(crate) groups: Vec<Vec<Span>>,
    /// (row that predicts, predicted token, slot), sorted by row.
    pub(crate) targets: Vec<(usize, u32, usize)>,
    pub(crate) slots: usize,
}

impl Rows {
    pub(crate) fn of(groups: &[TreeGroup<'_>]) -> Self {
        let mut rows = Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            groups: Vec::new(),
            targets: Vec::new(),
            slots: 0,
        };
        for group in groups {
            let trunk = rows.tokens.len();
            rows.tokens.extend_from_slice(group.trunk);
            rows.positions.extend(0..group.trunk.len());
            let mut spans = vec![Span {
                first: trunk,
                rows: group.trunk.len(),
                fork: 0,
            }];
            for position in group.prompt_tokens..group.trunk.len() {
                rows.target(trunk + position - 1, group.trunk[position]);
            }
            for branch in &group.branches {
                let first = rows.tokens.len();
                let inputs = branch.tokens.len().saturating_sub(1);
                rows.tokens.extend_from_slice(&branch.tokens[..inputs]);
                rows.positions.extend(branch.fork..branch.fork + inputs);
                spans.push(Span {
                    first,
                    rows: inputs,
                    fork: branch.fork,
                });
                for (t, &token) in branch.tokens.iter().enumerate() {
                    rows.target(
                        if t == 0 {
                            trunk + branch.fork - 1
                        } else {
                            first + t - 1
                        },
                        token,
                    );
                }
            }
            rows.groups.push(spans);
        }
        rows.targets.sort_by_key(|&(row, _, slot)| (row, slot));
        rows
    }

    fn target(&mut self, row: usize, token: u32) {
        self.targets.push((row, token, self.slots));
        self.slots += 1;
    }
}
