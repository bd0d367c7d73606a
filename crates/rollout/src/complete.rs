//! Many completions of many prompts, with the engine kept full.

use crate::{
    BranchRequest, FinishedBranch, RolloutEngine, RolloutError, RolloutStatistics, TrunkId,
};
use seele_random::Key;
use std::collections::HashMap;

/// Branches that wait in the engine for each that runs: so few that memory does not grow with the
/// work, enough that a place never stays empty.
const WAITING_PER_RUNNING: usize = 1;

/// A completion that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// Which prompt; neighbours with the same one share its trunk.
    pub prompt: usize,
    /// The prompt's tokens, `[tokens]`, at least one.
    pub prompt_ids: &'a [u32],
    /// Token `t` is drawn with `key.with(t)`.
    pub key: Key,
    /// The caller's name for it.
    pub tag: u64,
}

/// Makes all of `wanted`, in that order, and hands over what ends after every engine step, with the
/// engine's counts.
///
/// `engine` must have nothing pending. Prompts go in as places become free and are dropped with their
/// last completion, so memory does not grow with the number of completions.
///
/// # Errors
/// Those of the engine and of `stepped`; the engine is then in the middle of its work: drop it.
pub fn complete<'a, E: From<RolloutError>>(
    engine: &mut dyn RolloutEngine,
    wanted: impl IntoIterator<Item = Completion<'a>>,
    mut stepped: impl FnMut(Vec<FinishedBranch>, &RolloutStatistics) -> Result<(), E>,
) -> Result<(), E> {
    let capacity = engine.statistics().capacity.max(1);
    let room = capacity.saturating_mul(1 + WAITING_PER_RUNNING);
    let mut wanted = wanted.into_iter().peekable();
    // The prompt that goes in now, and the completions that each trunk still owes.
    let mut current: Option<(usize, TrunkId)> = None;
    let mut open: HashMap<TrunkId, usize> = HashMap::new();
    loop {
        while engine.pending() < room
            && let Some(next) = wanted.next()
        {
            let trunk = match current {
                Some((prompt, trunk)) if prompt == next.prompt => trunk,
                _ => engine.add_trunk(next.prompt_ids.to_vec())?,
            };
            current = Some((next.prompt, trunk));
            *open.entry(trunk).or_insert(0) += 1;
            engine.submit(BranchRequest {
                trunk,
                fork: next.prompt_ids.len(),
                key: next.key,
                expected_tokens: 0,
                tag: next.tag,
            })?;
        }
        if engine.pending() == 0 {
            return Ok(());
        }
        let finished = engine.step()?;
        let coming = wanted.peek().map(|next| next.prompt);
        for branch in &finished {
            let Some(owed) = open.get_mut(&branch.trunk) else {
                continue;
            };
            *owed -= 1;
            let goes_on = matches!(current, Some((prompt, trunk))
                if trunk == branch.trunk && coming == Some(prompt));
            if *owed == 0 && !goes_on {
                open.remove(&branch.trunk);
                engine.drop_trunk(branch.trunk);
                current = current.filter(|(_, trunk)| *trunk != branch.trunk);
            }
        }
        stepped(finished, &engine.statistics())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LocalEngine, Sampling};
    use seele_policy::config::{Family, ModelConfig};
    use seele_policy::decoder::Decoder;
    use seele_policy::parameters::Parameters;

    fn decoder() -> Decoder {
        let config = ModelConfig {
            family: Family::Llama,
            vocab_size: 20,
            hidden_size: 16,
            intermediate_size: 24,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_position_embeddings: 64,
            tied: true,
            qkv_bias: false,
            qk_norm: false,
            bos_token_id: None,
            eos_token_ids: vec![1],
        };
        Decoder::new(&config, &Parameters::random(&config, Key::new(1)))
    }

    /// Tokens by tag, with an engine that runs so many at a time; trunks are never looked up twice.
    fn all(decoder: &Decoder, capacity: usize, samples: usize) -> (Vec<Vec<u32>>, u64) {
        let sampling = Sampling {
            max_new_tokens: 9,
            stop_tokens: vec![1],
            ..Sampling::default()
        };
        let prompts: Vec<Vec<u32>> = (0..7).map(|i| vec![2 + i, 5, 3 + i]).collect();
        let mut engine = LocalEngine::new(decoder, sampling, capacity).unwrap();
        let mut tokens = vec![Vec::new(); prompts.len() * samples];
        let wanted = (0..tokens.len()).map(|slot| Completion {
            prompt: slot / samples,
            prompt_ids: &prompts[slot / samples],
            key: Key::new(3).with(slot as u64),
            tag: slot as u64,
        });
        let mut most = 0;
        complete(&mut engine, wanted, |finished, statistics| {
            most = most.max(statistics.decoded_tokens);
            for branch in finished {
                assert!(tokens[branch.tag as usize].is_empty(), "once each");
                tokens[branch.tag as usize] = branch.tokens;
            }
            Ok::<(), RolloutError>(())
        })
        .unwrap();
        assert_eq!(engine.pending(), 0);
        assert_eq!(engine.statistics().decoded_tokens, most);
        (tokens, engine.statistics().prefilled_tokens)
    }

    #[test]
    fn every_completion_comes_once_and_is_the_same_in_an_engine_of_any_size() {
        let decoder = decoder();
        let (expected, _) = all(&decoder, 100, 5);
        assert!(expected.iter().all(|tokens| !tokens.is_empty()));
        for capacity in [1, 2, 3, 8] {
            let (tokens, prefilled) = all(&decoder, capacity, 5);
            assert_eq!(tokens, expected, "{capacity}");
            // Seven prompts of three tokens, each through the model once.
            assert_eq!(prefilled, 21, "{capacity}");
        }
    }

    #[test]
    fn nothing_wanted_is_nothing_done() {
        assert_eq!(all(&decoder(), 4, 0).0, Vec::<Vec<u32>>::new());
    }
}
