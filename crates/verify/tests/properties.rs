//! Laws that hold for any answer: equality is reflexive and symmetric, survives the documented
//! rewrites, and no text whatever makes the checker panic or run away.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use seele_verify::{
    Extraction, Mode, Options, Verdict, compare_answers, equal, extract, verify, verify_choice,
};

/// Expressions as people write them, built from parts that are always readable and defined.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (1u32..200).prop_map(|n| n.to_string()),
        (1u32..50, 2u32..50).prop_map(|(n, d)| format!("\\frac{{{n}}}{{{d}}}")),
        (0u32..100, 0u32..1000).prop_map(|(a, b)| format!("{a}.{b:03}")),
        (2u32..60).prop_map(|n| format!("\\sqrt{{{n}}}")),
        prop_oneof![
            Just("\\pi"),
            Just("x"),
            Just("n"),
            Just("a_1"),
            Just("\\theta")
        ]
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("\\left({a} + {b}\\right)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("\\left({a} - {b}\\right)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} \\cdot {b}")),
            (inner.clone(), 1u32..5).prop_map(|(a, n)| format!("\\left({a}\\right)^{{{n}}}")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("\\frac{{{a}}}{{\\left({b}\\right)^2 + 7}}")),
            inner.prop_map(|a| format!("-\\left({a}\\right)")),
        ]
    })
}

/// Scraps that answers and attacks are made of.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop_oneof![
        Just("\\frac"),
        Just("{"),
        Just("}"),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just("|"),
        Just("^"),
        Just("_"),
        Just("\\sqrt"),
        Just("\\left"),
        Just("\\right"),
        Just("\\begin{pmatrix}"),
        Just("\\end{pmatrix}"),
        Just("&"),
        Just("\\\\"),
        Just(","),
        Just(";"),
        Just("="),
        Just("<"),
        Just("\\le"),
        Just("\\cup"),
        Just("\\pm"),
        Just("\\infty"),
        Just("\\text{cm}"),
        Just("\\text{ or }"),
        Just("x"),
        Just("2"),
        Just("17"),
        Just("0.5"),
        Just("1e9"),
        Just("\\pi"),
        Just("e"),
        Just("i"),
        Just("!"),
        Just("%"),
        Just("^\\circ"),
        Just("$"),
        Just("\\$"),
        Just("\\int"),
        Just("\\sum_{k=1}^{9}"),
        Just("dx"),
        Just("\\log"),
        Just("\\sin"),
        Just("+"),
        Just("-"),
        Just("*"),
        Just("/"),
        Just(" "),
        Just(":"),
        Just("\\boxed{"),
        Just("\\{"),
        Just("\\}"),
        Just("\u{221a}"),
        Just("\u{b2}"),
        Just("999999999999"),
        Just("\\binom"),
        Just("\\lfloor"),
        Just("\\rfloor"),
        Just("\\in"),
        Just("\\mathbb{R}"),
        Just("answer is"),
        Just("</think>"),
        Just("'"),
        Just("."),
    ];
    prop::collection::vec(scrap, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn equality_is_reflexive_and_survives_rewrites(text in expression()) {
        let options = Options::default();
        for same in [
            format!(" {text} "),
            format!("${text}$"),
            format!("\\left({text}\\right)"),
            format!("0 + {text}"),
            format!("\\frac{{3 \\cdot \\left({text}\\right)}}{{3}}"),
            format!("-\\left(-\\left({text}\\right)\\right)"),
            text.replace("\\frac", "\\dfrac"),
            text.replace(" + ", "+").replace("\\left(", "(").replace("\\right)", ")"),
            text.replace("\\cdot", "\\times"),
        ] {
            prop_assert!(equal(&text, &same, &options), "{text} <> {same}: {:?}", compare_answers(&text, &same, &options));
            prop_assert!(equal(&same, &text, &options), "{same} <> {text}");
        }
    }

    #[test]
    fn sums_and_products_commute(a in expression(), b in expression()) {
        let options = Options::default();
        let sums = equal(&format!("{a} + {b}"), &format!("{b} + {a}"), &options);
        let products = equal(&format!("{a} \\cdot {b}"), &format!("{b} \\cdot {a}"), &options);
        prop_assert!(sums && products, "{a} and {b}");
        let square = format!("\\left({a} + {b}\\right)^2");
        let written_out = format!("\\left({a}\\right)^2 + 2 \\cdot {a} \\cdot \\left({b}\\right) + \\left({b}\\right)^2");
        prop_assert!(equal(&square, &written_out, &options), "{square} <> {written_out}");
    }

    #[test]
    fn a_shifted_value_is_another_value(text in expression(), shift in 1u32..1000) {
        let options = Options::default();
        let shifted = format!("{text} + \\frac{{1}}{{{shift}}}");
        prop_assert!(!equal(&text, &shifted, &options), "{text} <> {shifted}");
    }

    #[test]
    fn equality_is_symmetric(a in scraps(), b in scraps()) {
        let options = Options::default();
        prop_assert_eq!(equal(&a, &b, &options), equal(&b, &a, &options), "{} <> {}", a, b);
    }

    #[test]
    fn verdicts_do_not_depend_on_anything_but_the_texts(response in scraps(), gold in scraps()) {
        for extraction in [Extraction::Boxed, Extraction::Fallback, Extraction::Choice, Extraction::AnswerTag] {
            for mode in [Mode::Math, Mode::Strict, Mode::Numeric, Mode::Choice] {
                let options = Options { extraction, ..Options::with_mode(mode) };
                let first = verify_choice(&response, &gold, &["x", "2"], &options);
                prop_assert_eq!(&first, &verify_choice(&response, &gold, &["x", "2"], &options));
                prop_assert_eq!(first.verdict == Verdict::NoAnswer, first.extracted.is_none());
            }
        }
    }

    #[test]
    fn any_text_gets_a_verdict(response in "\\PC{0,200}", gold in "\\PC{0,60}") {
        let _ = verify(&response, &gold, &Options::default());
        let _ = extract(&response, Extraction::Fallback);
        let _ = equal(&response, &gold, &Options::default());
    }

    #[test]
    fn strict_is_stricter_and_numeric_is_laxer(a in expression(), b in expression()) {
        let math = equal(&a, &b, &Options::default());
        let strict = equal(&a, &b, &Options::with_mode(Mode::Strict));
        let numeric = equal(&a, &b, &Options::with_mode(Mode::Numeric));
        prop_assert!(!strict || math);
        prop_assert!(!math || numeric);
    }
}
