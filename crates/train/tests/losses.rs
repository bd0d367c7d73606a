//! Golden vectors of `losses.json`: every case through [`Objective`], the code path of training.
//!
//! Each case runs in two layouts. *Apart*: every sequence has a trunk of its own, so the gradient of every hint
//! token is visible. *Shared*: the sequences of a problem fork from one trunk, so a hint token carries the sum
//! over the sequences that share it. Both in float64 and float32, whole and cut into pieces.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../tests/reference.rs"]
mod reference;

use std::collections::BTreeMap;

use seele_train::advantage::{AdvantageConfig, AdvantageKind};
use seele_train::objective::{
    AggregationConfig, Branch, Evaluation, ImitationConfig, ImitationTokens, KlConfig, Limit,
    Objective, ObjectiveConfig, PolicyLossConfig, TraceShape, Trunk, dynamic_sampling_keep,
    overlong_penalty,
};
use serde_json::{Value, json};

/// Functions of `losses.json` that belong to hint schedules and the accuracy-hint curve.
const FUNCTIONS_OF_HINTS: [&str; 9] = [
    "uft_probability",
    "uft_cuts",
    "binomial_pmf",
    "cosine_decay",
    "prefix_length_floor",
    "cold_start_rate",
    "hint_length",
    "curve_value",
    "curve_inverse",
];

fn golden() -> Option<Value> {
    let text = std::fs::read_to_string(reference::golden("losses.json")?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// One sequence of a case.
#[derive(Clone)]
struct Sequence {
    group: u64,
    round: u32,
    reward: f64,
    hint: usize,
    trace: bool,
    logprobs: Vec<f64>,
    old: Vec<f64>,
    reference: Vec<f64>,
    entropies: Vec<f64>,
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap();
    list.iter().map(|v| v.as_f64().unwrap()).collect()
}

fn sequences(case: &Value) -> Vec<Sequence> {
    let read = |value: &Value| {
        let roles = value["roles"].as_str().unwrap();
        let hint = roles.bytes().take_while(|&role| role == b'h').count();
        let own = &roles[hint..];
        let trace = own.contains('o');
        let expected = if trace { 'o' } else { 'g' };
        assert!(own.chars().all(|role| role == expected), "roles {roles}");
        Sequence {
            group: value["group"].as_u64().unwrap(),
            round: value["round"].as_u64().unwrap() as u32,
            reward: value["reward"].as_f64().unwrap(),
            hint,
            trace,
            logprobs: numbers(&value["logprobs"]),
            old: numbers(&value["old_logprobs"]),
            reference: numbers(&value["ref_logprobs"]),
            entropies: numbers(&value["entropies"]),
        }
    };
    let list = case["input"]["sequences"].as_array().unwrap();
    list.iter().map(read).collect()
}

/// A section in the spelling of recipes: words of a choice joined by `-`, `"off"` for an absent threshold.
fn section<T: serde::de::DeserializeOwned>(value: &Value, case: &str) -> T {
    let mut renamed = serde_json::Map::new();
    for (key, value) in value.as_object().unwrap() {
        let value = match value {
            Value::Null => json!("off"),
            Value::String(text) => json!(text.replace('_', "-")),
            other => other.clone(),
        };
        renamed.insert(key.clone(), value);
    }
    serde_json::from_value(Value::Object(renamed)).unwrap_or_else(|e| panic!("{case}: {e}"))
}

fn config(case: &Value) -> ObjectiveConfig {
    let name = case["name"].as_str().unwrap();
    let config = &case["config"];

    let mut advantage = config["advantage"].clone();
    let kind = advantage["kind"].as_str().unwrap();
    advantage["kind"] = json!(kind.strip_prefix("prefix_").unwrap_or(kind));
    let mut policy = config["policy"].clone();
    let fields = policy.as_object_mut().unwrap();
    if fields.contains_key("shape_gamma") {
        fields.insert("trace_shape".to_owned(), json!("ratio"));
    }
    if fields.get("prefix_old") == Some(&json!("old")) {
        fields.remove("prefix_old");
    }
    // The cases have no threshold unless they name it.
    fields
        .entry("log_ratio_clamp")
        .or_insert_with(|| json!("off"));

    let mut imitation = config.get("imitation").cloned();
    if let Some(imitation) = &mut imitation
        && imitation["mode"] == json!("seq")
    {
        imitation.as_object_mut().unwrap().remove("mode");
    }
    let optional = |key: &str| config.get(key).filter(|value| !value.is_null());

    ObjectiveConfig {
        advantage: section::<AdvantageConfig>(&advantage, name),
        policy_loss: section::<PolicyLossConfig>(&policy, name),
        aggregation: section::<AggregationConfig>(&config["aggregate"], name),
        kl: optional("kl").map_or_else(KlConfig::default, |v| section(v, name)),
        imitation: imitation.map_or_else(ImitationConfig::default, |v| section(&v, name)),
        entropy_filter: optional("entropy_filter")
            .map(|v| section(v, name))
            .unwrap_or_default(),
        ..ObjectiveConfig::default()
    }
}

/// A batch with, for every slot, the inputs of its token; and for every sequence its trunk and branch.
struct Layout {
    trunks: Vec<Trunk>,
    logprobs: Vec<f64>,
    entropies: Vec<f64>,
    places: Vec<(usize, usize)>,
}

fn branch(sequence: &Sequence) -> Branch {
    Branch {
        round: sequence.round,
        hint_tokens: sequence.hint,
        reward: sequence.reward,
        trace: sequence.trace,
        truncated: false,
        tokens: sequence.logprobs.len() - sequence.hint,
        old_logprobs: sequence.old[sequence.hint..].to_vec(),
        ref_logprobs: sequence.reference[sequence.hint..].to_vec(),
        ..Branch::default()
    }
}

/// Trunks from `(sequence with the solution tokens, how many they are, members)`.
fn layout(sequences: &[Sequence], trunks: &[(Sequence, usize, Vec<usize>)]) -> Layout {
    let mut result = Layout {
        trunks: Vec::new(),
        logprobs: Vec::new(),
        entropies: Vec::new(),
        places: vec![(0, 0); sequences.len()],
    };
    for (index, (solution, tokens, members)) in trunks.iter().enumerate() {
        result.logprobs.extend(&solution.logprobs[..*tokens]);
        result.entropies.extend(&solution.entropies[..*tokens]);
        for (place, &member) in members.iter().enumerate() {
            let sequence = &sequences[member];
            result.places[member] = (index, place);
            result.logprobs.extend(&sequence.logprobs[sequence.hint..]);
            result
                .entropies
                .extend(&sequence.entropies[sequence.hint..]);
        }
        result.trunks.push(Trunk {
            group: solution.group,
            solution_tokens: *tokens,
            old_logprobs: solution.old[..*tokens].to_vec(),
            ref_logprobs: solution.reference[..*tokens].to_vec(),
            branches: members.iter().map(|&m| branch(&sequences[m])).collect(),
        });
    }
    result
}

fn apart(sequences: &[Sequence]) -> Layout {
    let own =
        |(index, sequence): (usize, &Sequence)| (sequence.clone(), sequence.hint, vec![index]);
    layout(
        sequences,
        &sequences.iter().enumerate().map(own).collect::<Vec<_>>(),
    )
}

fn shared(case: &Value, sequences: &[Sequence]) -> Layout {
    let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, sequence) in sequences.iter().enumerate() {
        groups.entry(sequence.group).or_default().push(index);
    }
    let trunk = |(group, members): (u64, Vec<usize>)| {
        let listed = &case["input"]["trunks"][group.to_string()];
        let solution = if listed.is_null() {
            let longest = members.iter().max_by_key(|&&m| sequences[m].hint).unwrap();
            sequences[*longest].clone()
        } else {
            Sequence {
                logprobs: numbers(&listed["logprobs"]),
                old: numbers(&listed["old_logprobs"]),
                reference: numbers(&listed["ref_logprobs"]),
                entropies: numbers(&listed["entropies"]),
                hint: numbers(&listed["logprobs"]).len(),
                ..sequences[members[0]].clone()
            }
        };
        let tokens = solution.hint;
        (solution, tokens, members)
    };
    layout(
        sequences,
        &groups.into_iter().map(trunk).collect::<Vec<_>>(),
    )
}

/// Tolerance of a case in one precision.
struct Tolerance {
    absolute: f64,
    relative: f64,
}

impl Tolerance {
    fn check(&self, what: &str, found: f64, expected: f64) {
        let allowed = self.absolute + self.relative * expected.abs();
        assert!(
            (found - expected).abs() <= allowed,
            "{what}: {found} instead of {expected}, off by {:e}, allowed {allowed:e}",
            (found - expected).abs()
        );
    }
}

/// Prepares where needed, evaluates in pieces of `piece` slots and joins them.
fn run<T: Copy + Into<f64>>(
    objective: &mut Objective,
    logprobs: &[T],
    entropies: &[T],
    piece: usize,
) -> Evaluation {
    if objective.needs_all_logprobs_first() {
        objective.prepare(logprobs, Some(entropies)).unwrap();
    }
    let mut whole = Evaluation::default();
    let mut first = 0;
    for (logprobs, entropies) in logprobs.chunks(piece).zip(entropies.chunks(piece)) {
        let part = objective
            .evaluate(first, logprobs, Some(entropies))
            .unwrap();
        first += logprobs.len();
        whole.loss += part.loss;
        whole.terms += part.terms;
        whole.statistics += part.statistics;
        whole.grad_logprobs.extend(part.grad_logprobs);
    }
    whole
}

fn as_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn round_to_f32(values: &mut [f64]) {
    values.iter_mut().for_each(|v| *v = f64::from(*v as f32));
}

/// Runs a layout in one precision and returns the objective with what it gave.
fn evaluate(case: &Value, layout: &Layout, single: bool, piece: usize) -> (Objective, Evaluation) {
    let mut trunks = layout.trunks.clone();
    if single {
        for trunk in &mut trunks {
            round_to_f32(&mut trunk.old_logprobs);
            round_to_f32(&mut trunk.ref_logprobs);
            for branch in &mut trunk.branches {
                round_to_f32(&mut branch.old_logprobs);
                round_to_f32(&mut branch.ref_logprobs);
            }
        }
    }
    let mut objective = Objective::new(config(case), trunks).unwrap();
    assert_eq!(objective.slots(), layout.logprobs.len());
    let evaluation = if single {
        let (logprobs, entropies) = (as_f32(&layout.logprobs), as_f32(&layout.entropies));
        run(&mut objective, &logprobs, &entropies, piece)
    } else {
        run(&mut objective, &layout.logprobs, &layout.entropies, piece)
    };
    (objective, evaluation)
}

fn check_terms(name: &str, case: &Value, found: &Evaluation, tolerance: &Tolerance) {
    let expected = &case["expected"];
    for (term, value) in [
        ("policy", found.terms.policy),
        ("kl", found.terms.kl),
        ("imitation", found.terms.imitation),
    ] {
        let expected = expected["terms"][term].as_f64().unwrap();
        tolerance.check(&format!("{name}: {term}"), value, expected);
    }
    tolerance.check(
        &format!("{name}: loss"),
        found.loss,
        expected["loss"].as_f64().unwrap(),
    );
}

fn check_advantages(
    name: &str,
    case: &Value,
    objective: &Objective,
    places: &[(usize, usize)],
    tolerance: &Tolerance,
) {
    let expected = &case["expected"];
    for (index, &(trunk, branch)) in places.iter().enumerate() {
        if let Some(list) = expected["advantage_sequence"].as_array() {
            let advantage = objective.advantage(trunk, branch);
            let what = format!("{name}: advantage of sequence {index}");
            tolerance.check(&what, advantage.generated, list[index].as_f64().unwrap());
        }
        let found = objective.token_advantages(trunk, branch);
        let tokens = numbers(&expected["advantage_tokens"][index]);
        assert_eq!(found.len(), tokens.len(), "{name}: tokens of {index}");
        for (token, (found, expected)) in found.iter().zip(tokens).enumerate() {
            let what = format!("{name}: advantage of token {token} of sequence {index}");
            tolerance.check(&what, *found, expected);
        }
    }
}

fn check_own_gradients(
    name: &str,
    case: &Value,
    objective: &Objective,
    layout: &Layout,
    with_hint: bool,
    found: &[f64],
    tolerance: &Tolerance,
) {
    for (index, &(trunk, branch)) in layout.places.iter().enumerate() {
        let expected = numbers(&case["expected"]["grad_logprobs"][index]);
        let hint = layout.trunks[trunk].branches[branch].hint_tokens;
        let hint_slots = objective.solution_slots(trunk).take(hint);
        let own_slots = objective.branch_slots(trunk, branch);
        for (token, (slot, expected)) in hint_slots.chain(own_slots).zip(expected).enumerate() {
            if with_hint || token >= hint {
                let what = format!("{name}: gradient of token {token} of sequence {index}");
                tolerance.check(&what, found[slot], expected);
            }
        }
    }
}

fn check_trunk_gradients(
    name: &str,
    case: &Value,
    objective: &Objective,
    layout: &Layout,
    found: &[f64],
    tolerance: &Tolerance,
) {
    let Some(trunks) = case["expected"]["grad_trunk"].as_object() else {
        return;
    };
    assert_eq!(trunks.len(), layout.trunks.len(), "{name}: trunks");
    for (index, trunk) in layout.trunks.iter().enumerate() {
        let expected = numbers(&trunks[&trunk.group.to_string()]);
        let slots = objective.solution_slots(index);
        assert_eq!(
            slots.len(),
            expected.len(),
            "{name}: tokens of trunk {index}"
        );
        let trained = objective.trained_solution_tokens(index);
        for (token, (slot, expected)) in slots.zip(expected).enumerate() {
            let what = format!("{name}: gradient of token {token} of trunk {index}");
            tolerance.check(&what, found[slot], expected);
            assert!(
                token < trained || found[slot] == 0.0,
                "{name}: token {token} of trunk {index} is said to be untrained"
            );
        }
    }
}

#[test]
fn every_case_within_tolerance() {
    let Some(golden) = golden() else { return };
    let cases = golden["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let sequences = sequences(case);
        let layouts = [(apart(&sequences), true), (shared(case, &sequences), false)];
        for (layout, is_apart) in &layouts {
            for single in [false, true] {
                let bound = |key: &str| case["tolerance"][key].as_f64().unwrap();
                let tolerance = if single {
                    Tolerance {
                        absolute: bound("f32_abs"),
                        relative: bound("f32_rel"),
                    }
                } else {
                    Tolerance {
                        absolute: bound("f64_abs"),
                        relative: 0.0,
                    }
                };
                for piece in [usize::MAX, 3] {
                    let (objective, found) = evaluate(case, layout, single, piece);
                    let gradients = &found.grad_logprobs;
                    check_terms(name, case, &found, &tolerance);
                    check_advantages(name, case, &objective, &layout.places, &tolerance);
                    check_own_gradients(
                        name, case, &objective, layout, *is_apart, gradients, &tolerance,
                    );
                    if !is_apart {
                        check_trunk_gradients(
                            name, case, &objective, layout, gradients, &tolerance,
                        );
                    }
                }
            }
        }
    }
    eprintln!("{} cases", cases.len());
}

/// Supervised cases once more as the trainer runs them: the target is the trunk's solution, without branches.
#[test]
fn supervised_cases_as_solutions_without_branches() {
    let Some(golden) = golden() else { return };
    let mut checked = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let mut config = config(case);
        if config.advantage.kind != AdvantageKind::None
            || config.imitation.tokens != ImitationTokens::Generated
        {
            continue;
        }
        config.imitation.tokens = ImitationTokens::Solution;
        let sequences = sequences(case);
        let trunks = sequences
            .iter()
            .map(|sequence| Trunk {
                group: sequence.group,
                solution_tokens: sequence.logprobs.len(),
                ..Trunk::default()
            })
            .collect();
        let logprobs: Vec<f64> = sequences.iter().flat_map(|s| s.logprobs.clone()).collect();
        let objective = Objective::new(config, trunks).unwrap();
        let found = objective.evaluate(0, &logprobs, None).unwrap();
        let tolerance = Tolerance {
            absolute: case["tolerance"]["f64_abs"].as_f64().unwrap(),
            relative: 0.0,
        };
        check_terms(name, case, &found, &tolerance);
        let gradients = case["expected"]["grad_logprobs"].as_array().unwrap();
        let expected = gradients.iter().flat_map(numbers);
        for (token, (found, expected)) in found.grad_logprobs.iter().zip(expected).enumerate() {
            tolerance.check(&format!("{name}: gradient {token}"), *found, expected);
        }
        checked += 1;
    }
    assert!(checked > 0, "no supervised case in the golden file");
}

#[test]
fn functions_of_rewards_and_objectives() {
    let Some(golden) = golden() else { return };
    let mut checked = 0;
    for entry in golden["functions"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let args = &entry["args"];
        let number = |key: &str| args[key].as_f64().unwrap();
        let gradient_of_shape = entry["fn"] == json!("luffy_shape_grad_logprob");
        let found: Vec<f64> = match entry["fn"].as_str().unwrap() {
            "overlong_penalty" => numbers(&args["lengths"])
                .iter()
                .map(|&length| {
                    let longest = number("max_len") as usize;
                    overlong_penalty(length as usize, longest, number("buffer"), number("factor"))
                })
                .collect(),
            "dynamic_sampling_keep" => {
                let groups = args["accuracies"].as_array().unwrap();
                let keep = |group| f64::from(u8::from(dynamic_sampling_keep(&numbers(group))));
                groups.iter().map(keep).collect()
            }
            "luffy_shape" | "luffy_shape_grad_logprob" => {
                let config = PolicyLossConfig {
                    trace_shape: TraceShape::Ratio,
                    shape_gamma: number("gamma"),
                    clip_low: Limit::Off,
                    ..PolicyLossConfig::default()
                };
                let shape = |p: &f64| {
                    let (value, gradient) = config.shape_trace(p.ln());
                    if gradient_of_shape { gradient } else { value }
                };
                numbers(&args["p"]).iter().map(shape).collect()
            }
            other => {
                assert!(
                    FUNCTIONS_OF_HINTS.contains(&other),
                    "unknown function {other}"
                );
                continue;
            }
        };
        let as_number = |value: &Value| match value {
            Value::Bool(flag) => f64::from(u8::from(*flag)),
            other => other.as_f64().unwrap(),
        };
        let expected = entry["expected"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        let tolerance = Tolerance {
            absolute: entry["abs_tol"].as_f64().unwrap(),
            relative: 0.0,
        };
        for (found, expected) in found.iter().zip(expected) {
            tolerance.check(name, *found, as_number(expected));
        }
        checked += 1;
    }
    assert!(
        checked > 0,
        "no function of rewards or objectives in the golden file"
    );
}
