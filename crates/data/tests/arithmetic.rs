//! Laws of the generated arithmetic problems.
#![expect(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use std::collections::HashSet;

use proptest::prelude::*;
use seele_data::arithmetic::{
    AnswerForm, ArithmeticConfig, ArithmeticError, Between, Operator, Others, Split,
};

/// An evaluator of its own: sums of products, without steps.
fn value(expression: &str) -> i128 {
    let signed = expression.replace('-', "+-");
    let product = |term: &str| -> i128 {
        let negative = term.starts_with('-');
        let value: i128 = term
            .trim_start_matches('-')
            .split('*')
            .map(|n| n.parse::<i128>().unwrap())
            .product();
        if negative { -value } else { value }
    };
    signed
        .split('+')
        .filter(|term| !term.is_empty())
        .map(product)
        .sum()
}

fn configs() -> impl Strategy<Value = ArithmeticConfig> {
    let operators = prop::sample::subsequence(
        vec![Operator::Add, Operator::Subtract, Operator::Multiply],
        1..=3,
    );
    let answers = prop::sample::select(vec![
        AnswerForm::Plain,
        AnswerForm::Boxed,
        AnswerForm::Hashes,
    ]);
    let sizes = (
        1u64..4,
        0u64..3,
        1u64..4,
        20u64..40,
        prop::option::of(2u64..200),
        any::<bool>(),
    );
    (operators, answers, sizes, any::<u64>()).prop_map(|(operators, answer, sizes, seed)| {
        let (least, more, low, high, modulus, non_negative) = sizes;
        ArithmeticConfig {
            operations: Between {
                min: least,
                max: least + more,
            },
            operands: Between {
                min: low,
                max: high,
            },
            first_operand: (seed % 2 == 0).then_some(Between { min: 1, max: 50 }),
            others: (seed % 3 == 0).then_some(Others {
                share: 0.3,
                operations: Between { min: 1, max: 1 },
                first_operand: None,
            }),
            operators,
            modulus,
            non_negative,
            answer,
            count: 20,
            seed,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_line_has_the_value_of_the_statement(config in configs()) {
        let alphabet: HashSet<char> = config.alphabet().into_iter().collect();
        let reduce = |value: i128| config.modulus.map_or(value, |m| value.rem_euclid(i128::from(m)));
        let problems = config.generate(Split::Train).unwrap();
        prop_assert_eq!(problems.len(), 20);
        for problem in &problems {
            let solution = problem.solution.as_deref().unwrap();
            prop_assert_eq!(problem.steps.concat(), solution);
            prop_assert!(problem.problem.chars().chain(solution.chars()).all(|c| alphabet.contains(&c)));
            let operations = problem.extra["operations"].as_u64().unwrap();
            let is_one_of_the_others = config.others.is_some() && operations == 1;
            let range = config.operations.min..=config.operations.max;
            prop_assert!(is_one_of_the_others || range.contains(&operations));
            prop_assert_eq!(problem.steps.len() as u64, operations);
            let expected = reduce(value(problem.problem.trim_end_matches('=')));
            prop_assert_eq!(&problem.answer, &expected.to_string());
            let (last, lines) = problem.steps.split_last().unwrap();
            let (before, after) = config.answer.marks();
            prop_assert_eq!(last, &format!("{before}{expected}{after}"));
            for line in lines {
                prop_assert_eq!(reduce(value(line.trim_end_matches([';', '=']))), expected, "{}", solution);
                prop_assert!(!config.non_negative || !line.starts_with('-'));
            }
        }
    }

    #[test]
    fn training_and_held_out_problems_are_disjoint_whatever_the_seeds(first: u64, second: u64) {
        let config = |seed, count| ArithmeticConfig { operations: Between { min: 1, max: 2 }, count, seed, ..Default::default() };
        let statements = |config: ArithmeticConfig, split| -> HashSet<String> {
            config.generate(split).unwrap().into_iter().map(|p| p.problem).collect()
        };
        let train = statements(config(first, 500), Split::Train);
        let held_out = statements(config(second, 60), Split::HeldOut);
        prop_assert_eq!((train.len(), held_out.len()), (500, 60));
        prop_assert!(train.is_disjoint(&held_out));
    }
}

#[test]
fn the_same_settings_give_the_same_problems() {
    let config = ArithmeticConfig {
        count: 50,
        ..Default::default()
    };
    assert_eq!(
        config.generate(Split::Train).unwrap(),
        config.generate(Split::Train).unwrap()
    );
    let other = ArithmeticConfig {
        seed: 1,
        ..config.clone()
    };
    assert_ne!(
        config.generate(Split::Train).unwrap(),
        other.generate(Split::Train).unwrap()
    );
}

#[test]
fn more_problems_than_there_are_is_an_error() {
    let config = ArithmeticConfig {
        operations: Between { min: 1, max: 1 },
        count: 82,
        ..Default::default()
    };
    let error = config.generate(Split::Train).unwrap_err();
    assert!(
        matches!(
            error,
            ArithmeticError::Exhausted {
                found: 60..=80,
                wanted: 82,
                side: "train"
            }
        ),
        "{error}"
    );
}

#[test]
fn settings_out_of_range_are_named() {
    let good = ArithmeticConfig::default();
    for (config, key) in [
        (
            ArithmeticConfig {
                operations: Between { min: 0, max: 2 },
                ..good.clone()
            },
            "operations",
        ),
        (
            ArithmeticConfig {
                operands: Between { min: 3, max: 2 },
                ..good.clone()
            },
            "operands",
        ),
        (
            ArithmeticConfig {
                first_operand: Some(Between { min: 3, max: 2 }),
                ..good.clone()
            },
            "first_operand",
        ),
        (
            ArithmeticConfig {
                others: Some(Others {
                    share: 1.5,
                    operations: Between { min: 1, max: 1 },
                    first_operand: None,
                }),
                ..good.clone()
            },
            "others.share",
        ),
        (
            ArithmeticConfig {
                operators: vec![],
                ..good.clone()
            },
            "operators",
        ),
        (
            ArithmeticConfig {
                modulus: Some(1),
                ..good.clone()
            },
            "modulus",
        ),
        (
            ArithmeticConfig {
                count: 0,
                ..good.clone()
            },
            "count",
        ),
    ] {
        let error = config.generate(Split::Train).unwrap_err();
        assert!(
            matches!(&error, ArithmeticError::Setting { key: found, .. } if *found == key),
            "{error}"
        );
    }
}

#[test]
fn the_first_operand_has_a_range_of_its_own() {
    let config = ArithmeticConfig {
        operations: Between { min: 1, max: 2 },
        first_operand: Some(Between { min: 40, max: 60 }),
        count: 50,
        ..ArithmeticConfig::default()
    };
    for problem in config.generate(Split::Train).unwrap() {
        let terms = problem.problem.trim_end_matches('=').split('+');
        let terms: Vec<u64> = terms.map(|term| term.parse().unwrap()).collect();
        assert!((40..=60).contains(&terms[0]), "{}", problem.problem);
        assert!(terms[1..].iter().all(|term| (1..=9).contains(term)));
    }
}

#[test]
fn a_share_of_problems_has_another_length() {
    let config = ArithmeticConfig {
        operations: Between { min: 5, max: 6 },
        others: Some(Others {
            share: 0.25,
            operations: Between { min: 1, max: 2 },
            first_operand: Some(Between { min: 30, max: 60 }),
        }),
        count: 400,
        ..ArithmeticConfig::default()
    };
    let problems = config.generate(Split::Train).unwrap();
    let (short, long): (Vec<_>, Vec<_>) = problems.iter().partition(|p| p.steps.len() <= 2);
    assert!((70..130).contains(&short.len()), "{}", short.len());
    assert!(long.iter().all(|p| (5..=6).contains(&p.steps.len())));
    for problem in short {
        let first = problem.problem.split('+').next().unwrap();
        assert!((30..=60).contains(&first.parse::<u64>().unwrap()));
    }
}

#[test]
fn settings_are_read_from_toml() {
    let config: ArithmeticConfig = toml::from_str(
        "operations = { min = 2, max = 3 }\noperators = ['+', '*']\nanswer = 'boxed'",
    )
    .unwrap();
    assert_eq!(config.operators, [Operator::Add, Operator::Multiply]);
    assert_eq!(
        config.alphabet().iter().collect::<String>(),
        "*+0123456789;=\\bdeox{}"
    );
    assert!(toml::from_str::<ArithmeticConfig>("operation = 3").is_err());
}
