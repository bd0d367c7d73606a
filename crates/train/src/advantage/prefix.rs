//! Prefix-RFT: prefixed rollouts are judged against the unprefixed rollouts of the same problem.

use super::{Advantage, AdvantageKind, Member, partition};

/// Advantages of one problem (`split`, `split-centred`, `split-v2`; see [`AdvantageKind`]).
///
/// `group` holds indices into `members` and `result`. The baseline `R0` is the mean reward of the rollouts that
/// have neither hint nor trace; a problem without one is compared with its own mean instead, since any other
/// constant would push all its sequences one way. A trace gets `r - R0`.
pub(super) fn split_advantages(
    kind: AdvantageKind,
    members: &[Member],
    group: &[usize],
    result: &mut [Advantage],
) {
    let unprefixed = |index: &usize| members[*index].hint_tokens == 0 && !members[*index].trace;
    let baseline = mean(members, group.iter().copied().filter(unprefixed))
        .or_else(|| mean(members, group.iter().copied()))
        .unwrap_or(0.0);

    let prefixed = |index: &usize| members[*index].hint_tokens > 0 && !members[*index].trace;
    for &index in group.iter().filter(|index| !prefixed(index)) {
        result[index] = Advantage::uniform(members[index].reward - baseline);
    }

    // The prefix is always the start of the same solution, so its length identifies it.
    let same_prefix = partition(group.iter().copied().filter(prefixed), |i| {
        members[i].hint_tokens
    });
    for siblings in same_prefix {
        let count = siblings.len() as f64;
        let sibling_mean = mean(members, siblings.iter().copied()).unwrap_or(0.0);
        for index in siblings {
            let reward = members[index].reward;
            let (hint, generated) = match kind {
                AdvantageKind::SplitV2 => (reward - sibling_mean - baseline, reward - sibling_mean),
                AdvantageKind::SplitCentred => (reward - baseline, reward - baseline),
                _ => (reward - baseline, reward),
            };
            result[index] = Advantage {
                hint: hint / count,
                generated,
            };
        }
    }
}

fn mean(members: &[Member], indices: impl Iterator<Item = usize>) -> Option<f64> {
    let (count, sum) = indices.fold((0usize, 0.0), |(count, sum), index| {
        (count + 1, sum + members[index].reward)
    });
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unprefixed rewards 0 and 1 (R0 = 0.5); two rollouts from a prefix of 4 tokens with rewards 1 and 0.
    fn problem() -> [Member; 4] {
        [(0, 0.0), (0, 1.0), (4, 1.0), (4, 0.0)].map(|(hint_tokens, reward)| Member {
            group: 3,
            round: 0,
            reward,
            hint_tokens,
            ..Member::default()
        })
    }

    fn split(kind: AdvantageKind, members: &[Member]) -> Vec<(f64, f64)> {
        let mut result = vec![Advantage::default(); members.len()];
        let group: Vec<usize> = (0..members.len()).collect();
        split_advantages(kind, members, &group, &mut result);
        result.iter().map(|a| (a.hint, a.generated)).collect()
    }

    #[test]
    fn split_divides_the_prefix_advantage_and_leaves_the_continuation_uncentred() {
        let result = split(AdvantageKind::Split, &problem());
        assert_eq!(result[..2], [(-0.5, -0.5), (0.5, 0.5)]);
        assert_eq!(result[2..], [(0.25, 1.0), (-0.25, 0.0)]);
    }

    #[test]
    fn split_centred_centres_the_continuation() {
        let result = split(AdvantageKind::SplitCentred, &problem());
        assert_eq!(result[2..], [(0.25, 0.5), (-0.25, -0.5)]);
    }

    #[test]
    fn split_v2_compares_rollouts_from_the_same_prefix() {
        let result = split(AdvantageKind::SplitV2, &problem());
        assert_eq!(result[2..], [(0.0, 0.5), (-0.5, -0.5)]);
    }

    #[test]
    fn split_v2_with_one_rollout_a_prefix_gives_minus_the_baseline() {
        let result = split(AdvantageKind::SplitV2, &problem()[..3]);
        assert_eq!(result[2], (-0.5, 0.0));
    }

    #[test]
    fn without_an_unprefixed_rollout_the_problem_is_its_own_baseline() {
        let result = split(AdvantageKind::SplitCentred, &problem()[2..]);
        assert_eq!(result, [(0.25, 0.5), (-0.25, -0.5)]);
    }
}
