//! Published methods by name: the objective part.
//!
//! A preset holds what its source prints. Where the sources leave a value open, the comment says what was
//! chosen. `aggregation.l_max` stays open in all of them: it is the recipe's longest response.

use super::ObjectiveError;
use super::config::{
    AggregationConfig, AggregationMode, DynamicSamplingConfig, EntropyConfig, EntropyFilterConfig,
    EntropyFilterScope, ImitationConfig, ImitationTokens, KlConfig, KlKind, KlPlacement,
    ObjectiveConfig, OverlongConfig, PolicyLossConfig, PolicyLossKind, TraceShape,
};
use super::limit::Limit;
use crate::advantage::{AdvantageConfig, AdvantageKind, TraceMembership};

/// Names that [`preset`] knows, in the order of the documentation.
pub const PRESET_NAMES: [&str; 19] = [
    "seele",
    "seele-bayes",
    "grpo",
    "dr-grpo",
    "dapo",
    "gspo",
    "rloo",
    "sft",
    "luffy",
    "uft",
    "uft-stage",
    "r3",
    "prefix-rft",
    "rl-with-sft-loss",
    "fixed",
    "quest-a",
    "hint-on-failure",
    "multi-level",
    "escalate",
];

/// The objective of a published method.
///
/// # Errors
/// [`ObjectiveError::UnknownPreset`], which lists all names.
pub fn preset(name: &str) -> Result<ObjectiveConfig, ObjectiveError> {
    Ok(match name {
        // They differ in the estimator of the accuracy-hint curve, not in what is optimised.
        "seele" | "seele-bayes" => seele(),
        "grpo" => grpo(),
        "dr-grpo" => dr_grpo(),
        "dapo" => dapo(),
        "gspo" => gspo(),
        "rloo" => rloo(),
        "sft" => sft(),
        "luffy" => luffy(),
        // UFT's variants: the staircase changes the hints alone.
        "uft" | "uft-stage" => uft(),
        "r3" => r3(),
        "prefix-rft" => prefix_rft(),
        "rl-with-sft-loss" => rl_with_sft_loss(),
        // Their hints are context and only change where rollouts start. The sources describe schedules on top
        // of GRPO; taking its objective unchanged leaves the schedule as the only difference.
        "fixed" | "quest-a" | "hint-on-failure" | "multi-level" | "escalate" => grpo(),
        _ => {
            return Err(ObjectiveError::UnknownPreset {
                name: name.to_owned(),
                known: PRESET_NAMES.join(", "),
            });
        }
    })
}

/// SEELE (arXiv 2509.06923): Dr.GRPO over all rounds of a problem (Eq. 2), clipped token sum over a constant
/// (Eq. 48), 0.001 k3 on generated tokens and 0.001 log-likelihood of each sample's own hint (Sec. 5.1). The
/// clip range is a symbol in the paper; 0.2 is chosen.
fn seele() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::DrGrpo),
        aggregation: aggregate(AggregationMode::SumConst),
        kl: k3(0.001),
        imitation: ImitationConfig {
            coef: 0.001,
            ..ImitationConfig::default()
        },
        ..ObjectiveConfig::default()
    }
}

/// GRPO as verl's GRPO scripts run it: std-normalised, token mean, 0.001 k3, dual clip 3. The original paper
/// has `seq-mean-token-mean` and a KL coefficient of 0.04.
fn grpo() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::Grpo),
        policy_loss: verl_clip(),
        aggregation: aggregate(AggregationMode::TokenMean),
        kl: k3(0.001),
        ..ObjectiveConfig::default()
    }
}

/// Dr.GRPO: no standard deviation, no length in the normaliser, no KL.
fn dr_grpo() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::DrGrpo),
        policy_loss: verl_clip(),
        aggregation: aggregate(AggregationMode::SumConst),
        ..ObjectiveConfig::default()
    }
}

/// DAPO: clip-higher, token mean, no KL, dynamic sampling, soft over-long penalty.
fn dapo() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::Grpo),
        policy_loss: PolicyLossConfig {
            clip_high: Limit::At(0.28),
            ..verl_clip()
        },
        aggregation: aggregate(AggregationMode::TokenMean),
        overlong: OverlongConfig {
            buffer: Limit::At(4096.0),
            factor: 1.0,
            mask_truncated: false,
        },
        dynamic_sampling: DynamicSamplingConfig {
            drop_uniform: true,
            max_rollout_batches: 10,
        },
        ..ObjectiveConfig::default()
    }
}

/// GSPO: one ratio a sequence, clip range 3e-4 / 4e-4; log-ratio bounded by 10 as in verl.
fn gspo() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::Grpo),
        policy_loss: PolicyLossConfig {
            kind: PolicyLossKind::Gspo,
            clip_low: Limit::At(3e-4),
            clip_high: Limit::At(4e-4),
            log_ratio_clamp: Limit::At(10.0),
            ..PolicyLossConfig::default()
        },
        aggregation: aggregate(AggregationMode::SeqMeanTokenMean),
        ..ObjectiveConfig::default()
    }
}

/// RLOO as TRL has it: leave-one-out advantage, likelihood ratio of the whole sequence, KL 0.05 in the reward.
fn rloo() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::Rloo),
        policy_loss: PolicyLossConfig {
            kind: PolicyLossKind::SequenceRatio,
            ..PolicyLossConfig::default()
        },
        aggregation: aggregate(AggregationMode::SeqMeanTokenSum),
        kl: KlConfig {
            coef: 0.05,
            kind: KlKind::K1,
            clamp: false,
            placement: KlPlacement::Reward,
            ..KlConfig::default()
        },
        ..ObjectiveConfig::default()
    }
}

/// Supervised fine-tuning: mean negative log-likelihood of the solution tokens of the update batch.
fn sft() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::None),
        policy_loss: PolicyLossConfig {
            kind: PolicyLossKind::None,
            ..PolicyLossConfig::default()
        },
        aggregation: aggregate(AggregationMode::TokenMean),
        imitation: ImitationConfig {
            coef: 1.0,
            tokens: ImitationTokens::Solution,
            ..ImitationConfig::default()
        },
        ..ObjectiveConfig::default()
    }
}

/// LUFFY as its public training script sets it: Dr.GRPO over rollouts and trace, trace tokens weighed by
/// `p / (p + 0.1)`, no clip, sum over the longest response, entropy bonus 0.001, no KL.
fn luffy() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::DrGrpo),
        policy_loss: PolicyLossConfig {
            clip_low: Limit::Off,
            clip_high: Limit::Off,
            trace_shape: TraceShape::Ratio,
            shape_gamma: 0.1,
            ..PolicyLossConfig::default()
        },
        aggregation: aggregate(AggregationMode::SumOverLen),
        entropy: EntropyConfig {
            coef: 0.001,
            ..EntropyConfig::default()
        },
        ..ObjectiveConfig::default()
    }
}

/// UFT: GRPO with std, token means throughout, 0.001 k3, 0.001 cross-entropy on hint tokens, entropy bonus
/// 0.001.
fn uft() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::Grpo),
        aggregation: aggregate(AggregationMode::TokenMean),
        kl: k3(0.001),
        imitation: ImitationConfig {
            coef: 0.001,
            ..ImitationConfig::default()
        },
        entropy: EntropyConfig {
            coef: 0.001,
            ..EntropyConfig::default()
        },
        ..ObjectiveConfig::default()
    }
}

/// R3 as UFT's code has it: UFT's objective without the cross-entropy on hint tokens.
fn r3() -> ObjectiveConfig {
    ObjectiveConfig {
        imitation: ImitationConfig::default(),
        ..uft()
    }
}

/// Prefix-RFT: prefix tokens under the policy loss, the fifth of them with the highest entropy, `split`
/// advantage of the public code.
fn prefix_rft() -> ObjectiveConfig {
    ObjectiveConfig {
        advantage: advantage(AdvantageKind::Split),
        policy_loss: PolicyLossConfig {
            on_hint: true,
            ..verl_clip()
        },
        aggregation: aggregate(AggregationMode::SumOverLen),
        entropy_filter: EntropyFilterConfig {
            drop: 0.8,
            scope: EntropyFilterScope::Sequence,
        },
        ..ObjectiveConfig::default()
    }
}

/// LUFFY's ablation: rollouts with their own baseline plus the cross-entropy of the trace with coefficient 1.
/// Everything else as `luffy`, so that the trace's treatment is the only difference.
fn rl_with_sft_loss() -> ObjectiveConfig {
    let luffy = luffy();
    ObjectiveConfig {
        advantage: AdvantageConfig {
            traces: TraceMembership::Apart,
            ..luffy.advantage
        },
        imitation: ImitationConfig {
            coef: 1.0,
            tokens: ImitationTokens::Trace,
            ..ImitationConfig::default()
        },
        ..luffy
    }
}

fn advantage(kind: AdvantageKind) -> AdvantageConfig {
    AdvantageConfig {
        kind,
        ..AdvantageConfig::default()
    }
}

fn aggregate(mode: AggregationMode) -> AggregationConfig {
    AggregationConfig {
        mode,
        ..AggregationConfig::default()
    }
}

fn k3(coef: f64) -> KlConfig {
    KlConfig {
        coef,
        ..KlConfig::default()
    }
}

/// Clip range of verl, whose dual clip cannot be switched off.
fn verl_clip() -> PolicyLossConfig {
    PolicyLossConfig {
        dual_clip: Limit::At(3.0),
        ..PolicyLossConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_gives_a_valid_objective_once_the_response_length_is_known() {
        for name in PRESET_NAMES {
            let config = preset(name).unwrap().with_longest_response(2048);
            assert_eq!(config.validate(), Ok(()), "{name}");
            assert_eq!(config.aggregation.l_max, Some(2048), "{name}");
        }
    }

    #[test]
    fn every_preset_survives_being_written_to_a_recipe_and_read_again() {
        for name in PRESET_NAMES {
            let config = preset(name).unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(
                toml::from_str::<ObjectiveConfig>(&text).unwrap(),
                config,
                "{name}:\n{text}"
            );
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_all_names() {
        let message = preset("sele").unwrap_err().to_string();
        for name in PRESET_NAMES {
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn a_threshold_of_a_preset_can_be_taken_back() {
        let text = "[policy_loss]\ndual_clip = \"off\"\n[kl]\nkind = \"k3+\"\nwhere = \"all\"\n";
        let config: ObjectiveConfig = toml::from_str(text).unwrap();
        assert_eq!(config.policy_loss.dual_clip, Limit::Off);
        assert_eq!(config.kl.kind, KlKind::K3Plus);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error =
            toml::from_str::<ObjectiveConfig>("[policy_loss]\nclip_hihg = 0.28\n").unwrap_err();
        assert!(error.to_string().contains("clip_hihg"), "{error}");
    }
}
