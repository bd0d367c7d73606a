//! Whether the training problems are the same.

use super::manifest::hexadecimal;
use crate::recipe::EncodedData;
use sha2::{Digest, Sha256};

/// SHA-256 over ids, reference answers and tokens of all problems, in order.
pub(crate) fn fingerprint(data: &EncodedData) -> String {
    let mut hash = Sha256::new();
    // Lengths in front keep neighbours apart.
    let mut text = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for (problem, _) in &data.problems {
        text(&problem.id);
        text(&problem.answer);
    }
    for (_, encoded) in &data.problems {
        for ids in [&encoded.prompt_ids, &encoded.solution_ids] {
            hash.update((ids.len() as u64).to_le_bytes());
            for id in ids {
                hash.update(id.to_le_bytes());
            }
        }
    }
    hexadecimal(&hash.finalize())
}
