//! Laws of the epoch sampler.

use std::collections::HashSet;

use proptest::prelude::*;
use seele_data::{Draw, EpochSampler, SamplerPosition};
use seele_random::Key;

fn sizes() -> impl Strategy<Value = (usize, usize)> {
    (1usize..40).prop_flat_map(|problems| (Just(problems), 1..=problems))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn each_epoch_holds_each_problem_once_and_no_batch_holds_one_twice((problems, batch) in sizes(), seed: u64) {
        let mut sampler = EpochSampler::new(problems, batch, Key::new(seed)).unwrap();
        let mut draws: Vec<Draw> = Vec::new();
        while draws.len() < 6 * problems {
            let next = sampler.next_batch();
            let distinct: HashSet<usize> = next.iter().map(|draw| draw.problem).collect();
            prop_assert_eq!((distinct.len(), next.len()), (batch, batch));
            draws.extend(next);
        }
        for (epoch, epoch_draws) in draws.chunks_exact(problems).enumerate() {
            prop_assert!(epoch_draws.iter().all(|draw| draw.epoch == epoch as u64));
            let distinct: HashSet<usize> = epoch_draws.iter().map(|draw| draw.problem).collect();
            prop_assert_eq!(distinct.len(), problems);
        }
    }

    #[test]
    fn a_resumed_sampler_goes_on_exactly((problems, batch) in sizes(), seed: u64, batches in 0usize..60) {
        let key = Key::new(seed);
        let mut sampler = EpochSampler::new(problems, batch, key).unwrap();
        for _ in 0..batches {
            sampler.next_batch();
        }
        let saved = serde_json::to_string(&sampler.position()).unwrap();
        let position: SamplerPosition = serde_json::from_str(&saved).unwrap();
        let mut resumed = EpochSampler::resume(problems, batch, key, position).unwrap();
        prop_assert_eq!(resumed.epochs(), sampler.epochs());
        for _ in 0..20 {
            prop_assert_eq!(resumed.next_batch(), sampler.next_batch());
        }
    }
}

#[test]
fn another_seed_or_epoch_is_another_order() {
    let epoch = |sampler: &mut EpochSampler| -> Vec<usize> {
        sampler.next_batch().iter().map(|d| d.problem).collect()
    };
    let mut one = EpochSampler::new(50, 50, Key::new(1)).unwrap();
    let mut two = EpochSampler::new(50, 50, Key::new(2)).unwrap();
    let first = epoch(&mut one);
    assert_ne!(first, epoch(&mut two));
    assert_ne!(first, epoch(&mut one));
    assert_eq!(one.epochs(), 2.0);
}
