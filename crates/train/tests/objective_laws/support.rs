//! Random update batches and objectives for the property tests.

use std::ops::Range;

use proptest::prelude::*;
use seele_train::advantage::{AdvantageConfig, AdvantageKind};
use seele_train::objective::{
    AggregationConfig, AggregationMode, Branch, EmptySequences, EntropyConfig, EntropyFilterConfig,
    EntropyFilterScope, Evaluation, HintRole, ImitationConfig, ImitationKind, ImitationTokens,
    KlConfig, KlKind, KlTokens, Limit, Objective, ObjectiveConfig, PolicyLossConfig,
    PolicyLossKind, PrefixOld, Terms, TraceShape, Trunk, WhichHint,
};

/// Solution tokens of every generated trunk.
pub(crate) const SOLUTION: usize = 5;

/// An update batch with the current policy on it, trunk by trunk.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) trunks: Vec<TrunkCase>,
}

#[derive(Debug, Clone)]
pub(crate) struct TrunkCase {
    pub(crate) trunk: Trunk,
    pub(crate) solution: Current,
    /// One a branch.
    pub(crate) branches: Vec<Current>,
}

/// Current log-probs and entropies of a run of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) logprobs: Vec<f64>,
    pub(crate) entropies: Vec<f64>,
}

impl Batch {
    pub(crate) fn trunks(&self) -> Vec<Trunk> {
        self.trunks.iter().map(|case| case.trunk.clone()).collect()
    }

    fn slots(&self, list: impl Fn(&Current) -> &Vec<f64>) -> Vec<f64> {
        let runs = self
            .trunks
            .iter()
            .flat_map(|case| std::iter::once(&case.solution).chain(&case.branches));
        runs.flat_map(|current| list(current).clone()).collect()
    }

    pub(crate) fn logprobs(&self) -> Vec<f64> {
        self.slots(|current| &current.logprobs)
    }

    pub(crate) fn entropies(&self) -> Vec<f64> {
        self.slots(|current| &current.entropies)
    }

    pub(crate) fn objective(&self, config: &ObjectiveConfig) -> Objective {
        Objective::new(config.clone(), self.trunks()).unwrap()
    }

    /// The whole batch in one piece.
    pub(crate) fn evaluate(&self, config: &ObjectiveConfig) -> (Objective, Evaluation) {
        let mut objective = self.objective(config);
        let (logprobs, entropies) = (self.logprobs(), self.entropies());
        if objective.needs_all_logprobs_first() {
            objective.prepare(&logprobs, Some(&entropies)).unwrap();
        }
        let evaluation = objective.evaluate(0, &logprobs, Some(&entropies)).unwrap();
        (objective, evaluation)
    }

    /// The same batch with every hint taken away: all branches fork at the prompt's end.
    pub(crate) fn without_hints(mut self) -> Self {
        for case in &mut self.trunks {
            for branch in &mut case.trunk.branches {
                branch.hint_tokens = 0;
            }
        }
        self
    }

    pub(crate) fn without_traces(mut self) -> Self {
        for case in &mut self.trunks {
            for branch in &mut case.trunk.branches {
                branch.trace = false;
                if branch.hint_role == HintRole::OffPolicy {
                    branch.hint_role = HintRole::Context;
                }
            }
        }
        self
    }
}

/// Log-probs in float64, wide enough to leave the clip range on both sides.
fn logprobs(tokens: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-3.0..-0.01f64, tokens)
}

fn current(tokens: usize) -> impl Strategy<Value = Current> {
    let entropies = prop::collection::vec(0.0..4.0f64, tokens);
    (logprobs(tokens), entropies).prop_map(|(logprobs, entropies)| Current {
        logprobs,
        entropies,
    })
}

/// Mostly what training uses: all branches of a batch as configured.
const ROLES: [HintRole; 7] = [
    HintRole::Configured,
    HintRole::Configured,
    HintRole::Configured,
    HintRole::Context,
    HintRole::Imitated,
    HintRole::Policy,
    HintRole::OffPolicy,
];

fn branch() -> impl Strategy<Value = (Branch, Current)> {
    (0..5usize).prop_flat_map(|tokens| {
        (
            0..3u32,
            (0..=SOLUTION, one_of(&ROLES)),
            prop::sample::select(vec![0.0, 1.0, 0.25]),
            prop::bool::weighted(0.2),
            any::<bool>(),
            logprobs(tokens),
            logprobs(tokens),
            current(tokens),
        )
            .prop_map(
                move |(round, hint, reward, trace, truncated, old, reference, current)| {
                    let branch = Branch {
                        round,
                        hint_tokens: if trace { 0 } else { hint.0 },
                        hint_role: hint.1,
                        reward,
                        trace,
                        truncated,
                        tokens,
                        old_logprobs: old,
                        ref_logprobs: reference,
                    };
                    (branch, current)
                },
            )
    })
}

fn trunk() -> impl Strategy<Value = TrunkCase> {
    (
        logprobs(SOLUTION),
        logprobs(SOLUTION),
        current(SOLUTION),
        prop::collection::vec(branch(), 0..5),
    )
        .prop_map(|(old_logprobs, ref_logprobs, solution, branches)| {
            let (branches, currents) = branches.into_iter().unzip();
            TrunkCase {
                trunk: Trunk {
                    group: 0,
                    solution_tokens: SOLUTION,
                    old_logprobs,
                    ref_logprobs,
                    branches,
                },
                solution,
                branches: currents,
            }
        })
}

pub(crate) fn batch(trunks: Range<usize>) -> impl Strategy<Value = Batch> {
    prop::collection::vec(trunk(), trunks).prop_map(|mut trunks| {
        for (index, case) in trunks.iter_mut().enumerate() {
            case.trunk.group = index as u64;
        }
        Batch { trunks }
    })
}

pub(crate) const GROUP_ESTIMATORS: [AdvantageKind; 6] = [
    AdvantageKind::Grpo,
    AdvantageKind::GrpoPopulationStd,
    AdvantageKind::DrGrpo,
    AdvantageKind::Rloo,
    AdvantageKind::Hybrid,
    AdvantageKind::Batch,
];

const PREFIX_ESTIMATORS: [AdvantageKind; 3] = [
    AdvantageKind::Split,
    AdvantageKind::SplitCentred,
    AdvantageKind::SplitV2,
];

const MODES: [AggregationMode; 5] = [
    AggregationMode::TokenMean,
    AggregationMode::SeqMeanTokenMean,
    AggregationMode::SeqMeanTokenSum,
    AggregationMode::SumConst,
    AggregationMode::SumOverLen,
];

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn policy(kinds: &'static [PolicyLossKind]) -> impl Strategy<Value = PolicyLossConfig> {
    (
        one_of(kinds),
        one_of(&[Limit::Off, Limit::At(0.2)]),
        one_of(&[Limit::Off, Limit::At(0.28)]),
        one_of(&[Limit::Off, Limit::At(3.0)]),
        any::<bool>(),
        one_of(&[
            TraceShape::Identity,
            TraceShape::Ratio,
            TraceShape::Log,
            TraceShape::Power,
        ]),
    )
        .prop_map(
            |(kind, clip_low, clip_high, dual_clip, on_hint, trace_shape)| PolicyLossConfig {
                kind,
                clip_low,
                clip_high,
                dual_clip,
                on_hint: on_hint && kind == PolicyLossKind::Clip,
                prefix_old: PrefixOld::Sampling,
                trace_shape,
                ..PolicyLossConfig::default()
            },
        )
}

fn kl() -> impl Strategy<Value = KlConfig> {
    (
        one_of(&[0.0, 0.3]),
        one_of(&[KlKind::K1, KlKind::Abs, KlKind::K2, KlKind::K3]),
        any::<bool>(),
        one_of(&[KlTokens::Generated, KlTokens::All]),
        prop::option::of(one_of(&MODES)),
    )
        .prop_map(|(coef, kind, clamp, tokens, mode)| KlConfig {
            coef,
            kind,
            clamp,
            tokens,
            mode,
            ..KlConfig::default()
        })
}

fn imitation() -> impl Strategy<Value = ImitationConfig> {
    (
        one_of(&[0.0, 0.7]),
        one_of(&[
            (ImitationKind::LogLikelihood, ImitationTokens::Hint),
            (ImitationKind::LogLikelihood, ImitationTokens::Generated),
            (ImitationKind::LogLikelihood, ImitationTokens::Trace),
            (ImitationKind::LogLikelihood, ImitationTokens::Solution),
            (ImitationKind::Probability, ImitationTokens::Hint),
        ]),
        one_of(&MODES),
        one_of(&[WhichHint::Own, WhichHint::LastRound, WhichHint::Longest]),
    )
        .prop_map(|(coef, (kind, tokens), mode, which_hint)| ImitationConfig {
            coef,
            kind,
            tokens,
            mode,
            which_hint,
        })
}

/// Any objective of the given policy kinds without a stop-gradient (`k3+`, a detached prefix ratio).
pub(crate) fn config(kinds: &'static [PolicyLossKind]) -> impl Strategy<Value = ObjectiveConfig> {
    let estimators = [GROUP_ESTIMATORS.as_slice(), PREFIX_ESTIMATORS.as_slice()].concat();
    (
        one_of(&estimators),
        policy(kinds),
        (
            one_of(&MODES),
            one_of(&[EmptySequences::Exclude, EmptySequences::Count]),
        ),
        kl(),
        imitation(),
        (one_of(&[0.0, 0.2]), one_of(&MODES)),
        (
            one_of(&[0.0, 0.6]),
            one_of(&[EntropyFilterScope::Sequence, EntropyFilterScope::Batch]),
        ),
        any::<bool>(),
    )
        .prop_map(
            |(kind, policy_loss, (mode, empty), kl, imitation, entropy, filter, mask_truncated)| {
                let per_sequence = matches!(
                    policy_loss.kind,
                    PolicyLossKind::Gspo | PolicyLossKind::SequenceRatio
                );
                let mut config = ObjectiveConfig {
                    advantage: AdvantageConfig {
                        kind,
                        ..AdvantageConfig::default()
                    },
                    policy_loss,
                    aggregation: AggregationConfig {
                        mode: if per_sequence {
                            AggregationMode::SeqMeanTokenMean
                        } else {
                            mode
                        },
                        l_max: Some(8),
                        empty,
                    },
                    kl,
                    imitation,
                    entropy: EntropyConfig {
                        coef: entropy.0,
                        mode: entropy.1,
                    },
                    entropy_filter: EntropyFilterConfig {
                        drop: if policy_loss.on_hint { filter.0 } else { 0.0 },
                        scope: filter.1,
                    },
                    ..ObjectiveConfig::default()
                };
                config.overlong.mask_truncated = mask_truncated;
                config
            },
        )
}

pub(crate) const TOKEN_RATIO: &[PolicyLossKind] = &[PolicyLossKind::Clip, PolicyLossKind::None];
pub(crate) const SEQUENCE_RATIO: &[PolicyLossKind] =
    &[PolicyLossKind::Gspo, PolicyLossKind::SequenceRatio];

/// Equal up to the rounding of sums.
pub(crate) fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-11 * (1.0 + a.abs().max(b.abs()))
}

pub(crate) fn terms_near(a: &Terms, b: &Terms) -> bool {
    near(a.policy, b.policy)
        && near(a.kl, b.kl)
        && near(a.imitation, b.imitation)
        && near(a.entropy, b.entropy)
}
