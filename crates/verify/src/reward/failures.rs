//! Counts of what goes wrong while scoring.
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

macro_rules! failure_counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the reward was built, one field a kind of failure. A metric each.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct RewardFailures {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl RewardFailures {
            /// Names and counts in a fixed order.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }

        impl AddAssign for RewardFailures {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        /// The counters behind [`RewardFailures`], shared by threads.
        #[derive(Debug, Default)]
        pub(super) struct FailureCounters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl FailureCounters {
            pub(super) fn snapshot(&self) -> RewardFailures {
                RewardFailures { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

failure_counts! {
    /// Responses without an answer under the extraction rule (scored as wrong).
    no_answer,
    /// Golds that could not be read while the answer was not the same text (scored as wrong).
    gold_unreadable,
    /// Comparisons stopped at the work limit (scored as wrong).
    over_budget,
    /// Rollouts whose row lacks a column the reward needs (left out).
    missing_columns,
    /// Requests to a command that ran past the time limit (left out; the process is replaced).
    command_timeouts,
    /// Command processes that ended or closed their output while a request was open (left out; replaced).
    command_crashes,
    /// Command processes that could not be started (left out).
    command_start_failures,
    /// Command replies that are no reply to the request (left out; the process is replaced).
    command_bad_replies,
    /// HTTP requests that ran past the time limit (left out).
    http_timeouts,
    /// HTTP requests that failed on the way: no connection, broken transfer (left out).
    http_transport_errors,
    /// HTTP answers with an error status (left out).
    http_bad_statuses,
    /// HTTP answers whose body is no reply to the request (left out).
    http_bad_replies,
    /// Rollouts that a user's reward left out on purpose by a `null` score.
    null_scores,
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
