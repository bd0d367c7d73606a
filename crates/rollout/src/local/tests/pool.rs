//! Results under any admission: bounded memory, any order, any company.

use super::*;
use proptest::prelude::*;
use seele_policy::decoder::cache::PAGE_TOKENS;
use std::sync::LazyLock;

/// Long enough for four pages of its own.
const LONGEST: usize = 3 * PAGE_TOKENS + 10;

static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder::new(&config(), &parameters()));

fn settings() -> Sampling {
    Sampling {
        max_new_tokens: LONGEST,
        // Rare enough that lengths spread over the pages.
        stop_tokens: vec![1, 2],
        ..sampling(1.0)
    }
}

fn request(tag: u64, trunk: TrunkId, expected_tokens: usize) -> BranchRequest {
    BranchRequest {
        trunk,
        fork: 1 + (tag as usize * 5) % 9,
        key: Key::new(77).with(tag),
        expected_tokens,
        tag,
    }
}

/// Runs branches of four trunks; `expected` says what each is expected to take.
fn run_in(
    capacity: usize,
    pages: usize,
    tags: &[u64],
    expected: impl Fn(u64) -> usize,
) -> (HashMap<u64, FinishedBranch>, RolloutStatistics) {
    let mut engine = LocalEngine::new(&DECODER, settings(), capacity)
        .unwrap()
        .with_cache_memory(pages.saturating_mul(DECODER.page_bytes()));
    let trunks: Vec<_> = (0..4)
        .map(|n| engine.add_trunk(trunk_tokens(n)).unwrap())
        .collect();
    for &tag in tags {
        let trunk = trunks[(tag % 4) as usize];
        engine.submit(request(tag, trunk, expected(tag))).unwrap();
    }
    let mut finished = HashMap::new();
    while engine.pending() > 0 {
        for branch in engine.step().unwrap() {
            assert!(finished.insert(branch.tag, branch).is_none());
        }
        assert!(engine.pages_in_use() <= pages && engine.active.len() <= capacity);
    }
    assert_eq!(finished.len(), tags.len());
    (finished, engine.statistics())
}

/// Every branch by itself.
static ALONE: LazyLock<HashMap<u64, FinishedBranch>> = LazyLock::new(|| {
    let alone = |tag| run_in(1, usize::MAX, &[tag], |_| 0).0;
    (0..200).flat_map(alone).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn tokens_are_the_same_alone_and_among_two_hundred(
        capacity in 1usize..60,
        // A trunk and the longest branch need five.
        pages in prop_oneof![5usize..9, 9usize..60, Just(usize::MAX)],
        order in any::<u64>(),
    ) {
        let tags: Vec<u64> = (0..200).collect();
        let expected = |tag: u64| Key::new(order).with(tag).below(50) as usize;
        let (finished, statistics) = run_in(capacity, pages, &tags, expected);
        prop_assert_eq!(&finished, &*ALONE);
        prop_assert!(statistics.peak_pages <= pages);
        let tokens: usize = finished.values().map(|branch| branch.tokens.len()).sum();
        prop_assert_eq!(statistics.decoded_tokens, tokens as u64);
        prop_assert_eq!(statistics.finished_branches, 200);
    }
}

#[test]
fn branches_longer_than_expected_give_way_and_come_back() {
    let lengths: Vec<usize> = ALONE.values().map(|branch| branch.tokens.len()).collect();
    let longest = lengths.iter().max().unwrap();
    assert!(lengths.iter().any(|&len| len <= PAGE_TOKENS) && *longest > 3 * PAGE_TOKENS);
    // Short branches first, so that the long ones are expected to be short.
    let tags: Vec<u64> = (0..40).collect();
    let short_first = |tag: u64| 200 - ALONE[&tag].tokens.len();
    let (finished, statistics) = run_in(40, 12, &tags, short_first);
    assert!(tags.iter().all(|tag| finished[tag] == ALONE[tag]));
    assert!(statistics.repeated_tokens > 0, "{statistics:?}");
    assert_eq!(statistics.peak_pages, 12);
}

#[test]
fn trunks_that_nobody_reads_make_room_and_are_computed_again() {
    // Room for one trunk with one branch: the four trunks take turns.
    let tags: Vec<u64> = (0..8).collect();
    let (finished, statistics) = run_in(8, 5, &tags, |_| 0);
    assert!(tags.iter().all(|tag| finished[tag] == ALONE[tag]));
    let furthest = |n: u64| tags.iter().filter(move |tag| **tag % 4 == n);
    let once: u64 = (0..4)
        .map(|n| furthest(n).map(|tag| 1 + (tag * 5) % 9).max().unwrap())
        .sum();
    assert!(statistics.prefilled_tokens > once, "{statistics:?}");
}

#[test]
fn the_longest_expected_goes_first_and_of_equals_the_first_come() {
    let mut engine = LocalEngine::new(&DECODER, settings(), 1).unwrap();
    let trunk = engine.add_trunk(trunk_tokens(0)).unwrap();
    for (tag, expected_tokens) in [(0, 5), (1, 30), (2, 5), (3, 30)] {
        engine.submit(request(tag, trunk, expected_tokens)).unwrap();
    }
    let mut order = Vec::new();
    while engine.pending() > 0 {
        order.extend(engine.step().unwrap().into_iter().map(|branch| branch.tag));
    }
    assert_eq!(order, [1, 3, 0, 2]);
}

#[test]
fn a_pool_too_small_for_one_branch_is_refused_with_what_it_needs() {
    let mut engine = LocalEngine::new(&DECODER, settings(), 1)
        .unwrap()
        .with_cache_memory(4 * DECODER.page_bytes());
    let trunk = engine.add_trunk(trunk_tokens(0)).unwrap();
    let error = engine.submit(request(0, trunk, 0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a trunk of 9 tokens with a branch of up to 106 needs 1 MiB for its keys and values, but the pool has 0; give it more memory or allow fewer new tokens"
    );
    assert_eq!(engine.pending(), 0);
}

#[test]
fn the_tail_is_the_time_with_few_branches_left() {
    let tags: Vec<u64> = (0..40).collect();
    let (_, statistics) = run_in(40, usize::MAX, &tags, |_| 0);
    let time = statistics.time;
    assert!(time.tail > std::time::Duration::ZERO && time.tail < time.prefill + 2 * time.decode);
    // One after the other there is no end with fewer.
    let (_, single) = run_in(1, usize::MAX, &tags[..3], |_| 0);
    assert_eq!(single.time.tail, std::time::Duration::ZERO);
}
