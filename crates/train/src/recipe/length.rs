//! How long a stage of a run lasts.

use std::fmt;

/// How long a stage lasts: `steps` or `epochs` of its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many steps; 0 leaves the stage out.
    Steps(usize),
    /// As many steps as it takes to go through all problems so many times, at least 1.
    Epochs(usize),
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Epochs(epochs) => write!(f, "{epochs} epochs"),
        }
    }
}

impl Length {
    /// Steps of `per_step` problems each, at least 1, over `problems` problems. The last step is full: it may
    /// begin another epoch.
    pub fn steps(self, problems: usize, per_step: usize) -> usize {
        match self {
            Self::Steps(steps) => steps,
            Self::Epochs(epochs) => epochs.saturating_mul(problems).div_ceil(per_step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Length;

    #[test]
    fn epochs_take_as_many_steps_as_hold_every_problem_that_often() {
        assert_eq!(Length::Steps(7).steps(100, 8), 7);
        assert_eq!(Length::Epochs(3).steps(16, 8), 6);
        assert_eq!(Length::Epochs(3).steps(17, 8), 7);
    }
}
