//! Names of checkpoint folders.

use std::fmt;

/// Where in a run a checkpoint was taken. Later ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointName {
    /// After this many steps of supervised fine-tuning: `sft_step_<n>`.
    Supervised(usize),
    /// After this many training steps: `step_<n>`; 0 is before the first.
    Step(usize),
}

impl CheckpointName {
    /// Reads a folder's name; `None` for anything but a checkpoint's own.
    pub fn parse(folder: &str) -> Option<Self> {
        // Only the spelling that `Display` gives: no sign, no leading zero.
        let number = |digits: &str| {
            let number: usize = digits.parse().ok()?;
            (number.to_string() == digits).then_some(number)
        };
        match folder.strip_prefix("sft_step_") {
            Some(digits) => number(digits).map(Self::Supervised),
            None => folder
                .strip_prefix("step_")
                .and_then(number)
                .map(Self::Step),
        }
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Supervised(step) => write!(f, "sft_step_{step}"),
            Self::Step(step) => write!(f, "step_{step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_sort_as_the_run_goes() {
        let names = [
            CheckpointName::Supervised(9),
            CheckpointName::Supervised(10),
            CheckpointName::Step(0),
            CheckpointName::Step(7),
        ];
        assert!(names.is_sorted());
        for name in names {
            assert_eq!(CheckpointName::parse(&name.to_string()), Some(name));
        }
        for other in [
            "step_",
            "step_01",
            "step_+1",
            ".step_1.partial",
            "superseded_step_1",
        ] {
            assert_eq!(CheckpointName::parse(other), None, "{other}");
        }
    }
}
