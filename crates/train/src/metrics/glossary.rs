//! What every logged number means.

/// One entry of the glossary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glossary {
    /// Name in `metrics.jsonl`; `<i>` stands for a round, `<name>` for an evaluation set, `<kind>` for a kind
    /// of failure.
    pub key: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// How it is computed.
    pub formula: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// What a healthy run shows, and what should worry.
    pub expect: &'static str,
}

macro_rules! glossary {
    ($($key:literal, $meaning:literal, $formula:literal, $unit:literal, $expect:literal;)*) => {
        &[$(Glossary { key: $key, meaning: $meaning, formula: $formula, unit: $unit, expect: $expect }),*]
    };
}

/// Every name that a run logs, in logging order.
pub const GLOSSARY: &[Glossary] = glossary![
    "step", "training step", "counts from 1; 0 holds the evaluation before training", "steps", "grows by 1 a line";
    "reward/mean", "mean reward", "sum of rewards / rollouts with a reward; traces, which nobody sampled, are left out", "reward",
        "with a target accuracy: stays near the target while the hint rate falls; without hints: rises";
    "reward/missing", "rollouts without a reward", "rollouts and traces that the reward left out; they count in no mean and in no group", "rollouts",
        "0; others are explained by reward/failures";
    "reward/failures/<kind>", "trouble of the verifier", "events of that kind while the step's rollouts were verified; logged where there are any", "events",
        "no_answer falls as the policy learns the form; gold_unreadable, over_budget, timeouts and crashes should be rare: see docs of the reward";
    "hint/rate/mean", "mean share of the solution that is revealed", "mean of hint tokens / solution tokens over rollouts and traces; 1 for a whole trace", "0..1",
        "falls as the policy learns; a rate that stays near 1 means that even long hints do not help: look at the prompt template and the verifier";
    "hint/round_<i>/accuracy", "accuracy of round i", "mean correctness of the rollouts of round i", "0..1",
        "in the first epoch of `seele` the first round, which shows all but one token, lies far above the target; later ones lie near it. All near 0 or 1 means that the curve fit has nothing to go by";
    "hint/round_<i>/rate", "hint rate of round i", "mean of hint tokens / solution tokens over the rollouts of round i", "0..1",
        "rounds converge on each other when the stored rates are good";
    "hint/round_<i>/zero_variance", "problems that round i says nothing about", "problems whose rollouts of round i are all correct or all wrong / problems of round i", "0..1",
        "1 % of rounds of 8 at accuracy 0.5; high where hints are far too long or too short";
    "hint/round_<i>/deviation", "how far problems are from the target in round i", "mean over problems of |accuracy of the round - target accuracy|; logged where the schedule has a target", "0..1",
        "0.14 for rounds of 8 exactly at 0.5, by chance alone; 0.5 where all rounds end alike";
    "group/zero_variance", "groups that teach nothing", "groups whose rewards are all equal, before shaping by length / groups", "0..1",
        "low with hints; near 1 means that problems are all too hard or all too easy";
    "group/all_correct", "groups that are too easy", "groups whose rollouts are all correct / groups", "0..1",
        "low until problems are solved without hints; the rest of group/zero_variance is too hard";
    "group/all_correct_unhinted", "groups that are too easy whatever the hint", "groups whose rollouts are all correct, some of them without a hint / groups", "0..1",
        "rises as problems are learned; what it leaves of group/zero_variance is what other hint lengths could have mended";
    "policy/loss", "value of the objective", "policy + kl + imitation - entropy terms with their coefficients, mean over updates", "-",
        "small and noisy; its size says little, a jump says much";
    "policy/kl", "distance to the reference policy", "k3, whatever kl.kind the objective uses: mean over generated tokens of exp(d) - 1 - d, d = log pi_ref - log pi", "nats a token",
        "grows slowly from 0; a fast rise means too high a learning rate";
    "policy/entropy", "entropy of the policy", "mean over generated tokens of -sum p ln p", "nats",
        "falls slowly; a collapse to 0 ends exploration";
    "policy/imitation", "how unlikely the imitated tokens are", "-log-likelihood of the tokens of imitation.where (hints, traces, solutions), aggregated by imitation.mode, mean over updates", "nats a token with token-mean",
        "falls slowly; logged where imitation.coef is above 0 and imitation.kind is log-likelihood";
    "policy/clip_fraction", "clipped tokens", "tokens whose gradient clip, dual clip or the clamp of the log-ratio takes away / tokens with a ratio: generated ones, with policy_loss.on_hint those of prefixes too", "0..1",
        "0 on the first update of a step, some percent later; above 0.2 the updates are too large";
    "policy/grad_norm", "size of the gradient", "L2 norm over all parameters before clipping, mean over updates", "-",
        "steady; spikes are cut by optimizer.max_grad_norm";
    "policy/learning_rate", "learning rate", "schedule at the last optimizer step", "-", "follows the schedule";
    "policy/logprob_gap/max", "sampler and trainer disagree", "max |log-prob while sampling - log-prob in training| before the first update", "nats",
        "below 1e-3 in float32; more means that the two do not compute the same policy";
    "policy/skipped_updates", "updates left out", "optimizer steps whose loss or gradient was not finite", "updates",
        "0; optimizer.max_skipped_updates in a row end the run";
    "rollout/count", "rollouts", "rollouts sampled, those of replaced rounds included, traces not", "rollouts",
        "problems a step times rollouts a problem; 0 where training reads reference solutions only, and then nothing that is measured on rollouts is logged";
    "rollout/response_length/mean", "length of rollouts", "mean generated tokens", "tokens",
        "falls with longer hints; growth to the limit is a warning";
    "rollout/truncated", "rollouts cut off", "rollouts that reached max_new_tokens / rollouts", "0..1",
        "low; a high share means that rollout.max_new_tokens is too small or the policy has lost its end token";
    "rollout/utilisation", "how full the batch is", "mean branches decoding / rollout.max_active_branches, over decoding steps", "0..1",
        "high while rounds overlap; low where a step has fewer rollouts than may decode, or a long tail";
    "rollout/prefill_saved", "prefill that sharing saved", "trunk tokens in front of the branches, summed over branches - trunk tokens that went through the model", "tokens",
        "grows with rollouts a problem, rounds and hint length";
    "rollout/repeated", "tokens computed twice for lack of memory", "cached tokens of branches that gave way to others", "tokens",
        "0; above, a larger rollout.cache_memory or a smaller rollout.max_active_branches saves time";
    "time/rollout", "time for sampling", "wall clock", "s", "most of a step";
    "time/rollout_tail", "end of sampling with a batch that runs empty", "part of time/rollout with nothing waiting and fewer than half as many branches decoding as in the fullest step before", "s",
        "a small part of time/rollout; long where single rollouts are much longer than others";
    "time/reward", "time for verification and curve fits that sampling did not hide", "wall clock", "s", "near 0";
    "time/logprobs", "time for reference log-probabilities", "wall clock", "s", "below the update";
    "time/update", "time for gradients and optimizer", "wall clock", "s", "comparable to sampling";
    "time/eval", "time for held-out evaluation", "wall clock", "s", "0 where nothing is evaluated";
    "time/step", "time of the whole step", "wall clock", "s", "sum of the others and little more";
    "tokens/rollout", "generated tokens", "sum over rollouts", "tokens", "divide by time/rollout for the sampling speed";
    "tokens/train", "trained tokens", "trunk and branch tokens that went forward and backward, all passes", "tokens",
        "divide by time/update for the training speed";
    "memory/rss_mib", "memory of the process", "resident set at the end of the step; where the system tells", "MiB", "flat after the first steps";
    "memory/peak_rss_mib", "most memory so far", "high-water mark of the resident set", "MiB", "flat after the first steps";
    "eval/<name>/accuracy", "accuracy without hints", "correct answers / answers: a greedy one to each problem, or as many as eval.sets.<name>.samples, drawn at its temperature", "0..1",
        "rises; the number that counts";
    "eval/<name>/loss", "loss on held-out solutions", "-mean log-likelihood of the reference solutions' tokens, end token included", "nats a token",
        "logged where training reads reference solutions only; falls with the training loss, and rises again when the policy learns them by heart";
    "sft/step", "step of the supervised stage (sft.jsonl)", "counts from 1", "steps", "grows by 1 a line";
    "sft/loss", "loss of the supervised stage", "-mean log-likelihood of the step's solution tokens", "nats a token", "falls";
    "sft/grad_norm", "size of the gradient in the supervised stage", "L2 norm over all parameters before clipping", "-", "falls, then steady";
    "sft/learning_rate", "learning rate of the supervised stage", "schedule at the step", "-", "follows the schedule";
    "sft/tokens_train", "tokens of the supervised stage", "tokens that went forward and backward", "tokens", "divide by sft/time_step for the training speed";
    "sft/time_step", "time of a step of the supervised stage", "wall clock", "s", "steady";
    "sft/eval/<name>/loss", "loss on held-out solutions in the supervised stage", "-mean log-likelihood of the reference solutions' tokens, end token included", "nats a token",
        "falls with sft/loss; a growing gap to it means that the solutions are learned by heart";
];

/// How the names of the numbers begin that [`depends_on_machine`] tells from the others.
const OF_THE_MACHINE: [&str; 6] = [
    "time/",
    "sft/time_step",
    "memory/",
    // When verdicts come, and how much memory is free, decide which branches run together.
    "rollout/utilisation",
    "rollout/prefill_saved",
    "rollout/repeated",
];

/// Whether a logged number depends on the clock, the machine's load or its free memory. All others are the same
/// to the bit in every run of a recipe on one kind of processor, however often it was stopped and gone on with.
pub fn depends_on_machine(key: &str) -> bool {
    OF_THE_MACHINE.iter().any(|start| key.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::super::{
        EvalAccuracy, HeldOutLoss, PolicyMetrics, ResidentMemory, RoundMetrics, SftStepMetrics,
        StepMetrics,
    };
    use super::*;

    #[test]
    fn glossary_and_log_have_the_same_names() {
        let metrics = StepMetrics {
            rollouts: 1,
            reward_failures: vec![("kind", 1)],
            memory: Some(ResidentMemory::default()),
            rounds: vec![RoundMetrics {
                deviation: Some(0.0),
                ..Default::default()
            }],
            policy: PolicyMetrics {
                kl: Some(0.0),
                imitation: Some(0.0),
                ..Default::default()
            },
            eval: vec![EvalAccuracy {
                name: "x".into(),
                accuracy: 0.0,
                problems: 1,
                loss: Some(0.0),
            }],
            ..Default::default()
        };
        let stage = SftStepMetrics {
            held_out: vec![HeldOutLoss {
                name: "x".into(),
                loss: 0.0,
            }],
            ..Default::default()
        };
        let (metrics, stage) = (metrics.to_map(), stage.to_map());
        let logged: Vec<String> = metrics.keys().chain(stage.keys()).cloned().collect();
        let explained: Vec<String> = GLOSSARY
            .iter()
            .map(|entry| entry.key.replace("<i>", "1").replace("<name>", "x"))
            .map(|key| key.replace("<kind>", "kind"))
            .collect();
        assert_eq!(logged, explained);
    }

    #[test]
    fn what_depends_on_the_machine_is_in_the_glossary_and_not_all_of_it() {
        let keys = || GLOSSARY.iter().map(|entry| entry.key);
        for start in OF_THE_MACHINE {
            assert!(keys().any(|key| key.starts_with(start)), "{start}");
        }
        assert!(depends_on_machine("time/step") && depends_on_machine("memory/rss_mib"));
        let of_others = ["rollout/count", "policy/loss", "eval/time/accuracy"];
        assert!(!of_others.into_iter().any(depends_on_machine));
    }
}
