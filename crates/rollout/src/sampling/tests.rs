use super::*;
use seele_policy::kernels::softmax::log_sum_exp;

fn sampling(temperature: f32, top_k: usize, top_p: f32) -> Sampling {
    Sampling {
        temperature,
        top_k,
        top_p,
        ..Sampling::default()
    }
}

fn logits(seed: u64, vocab: u64) -> Vec<f32> {
    let key = Key::new(seed);
    (0..vocab)
        .map(|i| key.with(i).normal() as f32 * 2.0)
        .collect()
}

fn draw(logits: &[f32], sampling: &Sampling, key: Key) -> Draw {
    Sampler::default()
        .draw(&mut logits.to_vec(), sampling, key)
        .expect("finite logits")
}

/// How often each token comes up.
fn frequencies(logits: &[f32], sampling: &Sampling, draws: u64) -> Vec<f64> {
    let mut counts = vec![0.0; logits.len()];
    for i in 0..draws {
        counts[draw(logits, sampling, Key::new(9).with(i)).token as usize] += 1.0 / draws as f64;
    }
    counts
}

#[test]
fn greedy_takes_the_first_of_the_largest_and_records_temperature_one() {
    let row = [1.0, 3.0, 3.0, -2.0];
    let drawn = draw(&row, &sampling(0.0, 0, 1.0), Key::new(0));
    assert_eq!(drawn.token, 1);
    assert_eq!(drawn.logprob, 3.0 - log_sum_exp(&row));
}

#[test]
fn top_k_of_one_equals_greedy() {
    for seed in 0..50 {
        let row = logits(seed, 300);
        let greedy = draw(&row, &sampling(0.0, 0, 1.0), Key::new(seed));
        assert_eq!(draw(&row, &sampling(1.0, 1, 1.0), Key::new(seed)), greedy);
        let warm = draw(&row, &sampling(2.0, 1, 1.0), Key::new(seed));
        assert_eq!(warm.token, greedy.token);
        assert_ne!(warm.logprob, greedy.logprob);
    }
}

#[test]
fn frequencies_follow_the_scaled_distribution() {
    let row = [0.0f32, 1.0, 2.0, -1.0];
    for temperature in [0.5f32, 1.0, 2.0] {
        let weights = row.map(|x| f64::from(x / temperature).exp());
        let total: f64 = weights.iter().sum();
        let counts = frequencies(&row, &sampling(temperature, 0, 1.0), 20_000);
        for (count, weight) in counts.iter().zip(weights) {
            assert!((count - weight / total).abs() < 0.012, "{counts:?}");
        }
    }
}

#[test]
fn top_p_keeps_the_smallest_set() {
    // Probabilities 0.1, 0.4, 0.2, 0.3.
    let row = [0.1f32, 0.4, 0.2, 0.3].map(f32::ln);
    let kept = |top_k, top_p| {
        let mut sampler = Sampler::default();
        let log_sum = log_sum_exp(&row);
        sampler
            .truncate(&row, log_sum, &sampling(1.0, top_k, top_p))
            .to_vec()
    };
    assert_eq!(kept(0, 0.05), [1]);
    assert_eq!(kept(0, 0.39), [1]);
    assert_eq!(kept(0, 0.41), [1, 3]);
    assert_eq!(kept(0, 0.69), [1, 3]);
    assert_eq!(kept(0, 0.71), [1, 3, 2]);
    assert_eq!(kept(0, 0.95), [1, 3, 2, 0]);
    assert_eq!(kept(2, 1.0), [1, 3]);
    // Of the two, 4/7 and 3/7.
    assert_eq!(kept(2, 0.55), [1]);
    assert_eq!(kept(2, 0.6), [1, 3]);
    assert_eq!(kept(99, 0.41), [1, 3]);
}

#[test]
fn top_p_finds_the_same_set_in_a_flat_distribution_as_a_full_sort() {
    let row: Vec<f32> = logits(3, 5000).iter().map(|x| x * 0.05).collect();
    let log_sum = log_sum_exp(&row);
    let mut order: Vec<u32> = (0..5000).collect();
    order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
    for top_p in [0.001f32, 0.01, 0.1, 0.5, 0.9, 0.999] {
        let mut reached = 0.0;
        let cut = order
            .iter()
            .position(|&token| {
                reached += probability(&row, log_sum, token);
                reached >= f64::from(top_p)
            })
            .expect("the sum gets this far");
        let mut sampler = Sampler::default();
        let kept = sampler.truncate(&row, log_sum, &sampling(1.0, 0, top_p));
        assert_eq!(kept, &order[..=cut]);
    }
}

#[test]
fn truncation_restricts_the_draw_but_not_the_log_prob() {
    let row = logits(1, 100);
    let log_sum = log_sum_exp(&row);
    let limited = sampling(1.0, 5, 0.9);
    for i in 0..200 {
        let drawn = draw(&row, &limited, Key::new(i));
        let likelier = row
            .iter()
            .filter(|&&x| x > row[drawn.token as usize])
            .count();
        assert!(likelier < 5);
        assert_eq!(drawn.logprob, row[drawn.token as usize] - log_sum);
    }
}

#[test]
fn inversion_ends_at_the_last_possible_token_when_rounding_falls_short() {
    let row = [0.0f32, 0.0, -1000.0];
    assert_eq!(invert(&row, log_sum_exp(&row), 0..3, 2.0), 1);
}

#[test]
fn a_long_row_is_inverted_block_by_block_as_in_double_precision() {
    let row = logits(4, 5003);
    let [_, largest] = extremes(&row);
    let mut notes = Vec::new();
    log_sum_exp_with_notes(&row, largest, &mut notes);
    let weights: Vec<f64> = row.iter().map(|&x| f64::from(x - largest).exp()).collect();
    let whole: f64 = weights.iter().sum();
    for i in 0..3000 {
        let uniform = f64::from(i) / 3000.0;
        let token = invert_blocks(&row, largest, &notes, uniform) as usize;
        let before = weights[..token].iter().sum::<f64>() / whole;
        let after = before + weights[token] / whole;
        assert!(
            before - 1e-6 <= uniform && uniform < after + 1e-6,
            "{uniform}"
        );
    }
}

#[test]
fn logits_that_are_not_finite_give_no_token() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for temperature in [0.0, 1.0] {
            let mut row = [1.0, bad, 0.0];
            let settings = sampling(temperature, 0, 1.0);
            assert_eq!(
                Sampler::default().draw(&mut row, &settings, Key::new(0)),
                None
            );
        }
    }
    assert_eq!(
        Sampler::default().draw(&mut [], &Sampling::default(), Key::new(0)),
        None
    );
}

#[test]
fn settings_outside_their_range_are_refused() {
    for bad in [
        sampling(-1.0, 0, 1.0),
        sampling(f32::NAN, 0, 1.0),
        sampling(1.0, 0, 0.0),
        sampling(1.0, 0, 1.5),
        Sampling {
            max_new_tokens: 0,
            ..Sampling::default()
        },
    ] {
        assert!(
            matches!(bad.check(), Err(RolloutError::InvalidSetting { .. })),
            "{bad:?}"
        );
    }
    assert_eq!(Sampling::default().check(), Ok(()));
}
