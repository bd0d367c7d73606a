//! Every published gold equals itself and its mechanical rewrites, and differs from perturbed answers.
//!
//! The rewrites are made here on the text, by rules that do not use the crate's own parser.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]
#[path = "../../../tests/reference.rs"]
mod reference;

use std::collections::BTreeSet;

use reference::data;
use seele_verify::{GoldError, Mode, Options, Verdict, check_gold, compare_answers, equal, verify};

/// Golds that are prose or broken, as published; everything else must be readable.
const UNREADABLE: [&str; 1] = [
    r"$f(x)=a x+b$, where $b$ is an arbitrary integer, and $a$ is an arbitrary positive integer with $\mho(a)=0$",
];

fn golds() -> Option<BTreeSet<String>> {
    let mut golds = BTreeSet::new();
    for name in [
        "math500",
        "minerva",
        "olympiadbench",
        "aime24",
        "aime25",
        "amc23",
        "amc83",
        "gsm8k/test",
        "math_traces",
    ] {
        let text = std::fs::read_to_string(data(&format!("{name}.jsonl"))?).unwrap();
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            golds.insert(row["answer"].as_str().unwrap().to_owned());
        }
    }
    Some(golds)
}

/// Collects what goes wrong, so that one run shows all of it.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn same(&mut self, gold: &str, answer: &str) {
        let comparison = compare_answers(gold, answer, &Options::default());
        if !comparison.verdict.is_correct() {
            self.0.push(format!(
                "should be equal: {gold}  <>  {answer}  ({})",
                comparison.reason
            ));
        }
        if !equal(answer, gold, &Options::default()) {
            self.0.push(format!(
                "should be equal turned round: {answer}  <>  {gold}"
            ));
        }
    }

    fn different(&mut self, gold: &str, answer: &str) {
        for (g, a) in [(gold, answer), (answer, gold)] {
            let comparison = compare_answers(g, a, &Options::default());
            if comparison.verdict.is_correct() {
                self.0.push(format!(
                    "should differ: {g}  <>  {a}  ({})",
                    comparison.reason
                ));
            }
        }
    }

    fn report(self) {
        assert!(
            self.0.is_empty(),
            "{} failures:\n{}",
            self.0.len(),
            self.0.join("\n")
        );
    }
}

/// Splits at commas outside every kind of bracket.
fn top_level_items(text: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                items.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(text[start..].trim());
    items
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.len() < 16 && digits.bytes().all(|b| b.is_ascii_digit())
}

fn is_decimal(text: &str) -> bool {
    text.strip_prefix('-')
        .unwrap_or(text)
        .split_once('.')
        .is_some_and(|(a, b)| {
            (a.is_empty() || is_integer(a))
                && !a.starts_with('-')
                && is_integer(b)
                && !b.starts_with('-')
        })
}

/// `\frac{a}{b}` of whole numbers, with its sign.
fn fraction(text: &str) -> Option<(&str, i64, i64)> {
    let (sign, body) = text
        .strip_prefix('-')
        .map_or(("", text), |body| ("-", body));
    let body = body
        .strip_prefix("\\dfrac{")
        .or_else(|| body.strip_prefix("\\frac{"))?;
    let (numerator, rest) = body.split_once("}{")?;
    let denominator = rest.strip_suffix('}')?;
    Some((sign, numerator.parse().ok()?, denominator.parse().ok()?))
}

/// `(a, b)`.
fn is_bracketed_sequence(plain: &str) -> bool {
    plain.starts_with('(') && top_level_items(&plain[1..plain.len() - 1]).len() > 1
}

/// No words, brackets of sequences, relations or lists: an expression that can stand in parentheses.
fn is_expression(gold: &str) -> bool {
    let plain = gold
        .replace("\\left", "")
        .replace("\\right", "")
        .replace("\\quad", "");
    let relation_or_unit = [
        "\\text", "\\mbox", "\\mathrm", "\\in", "\\cup", "\\pm", "\\le", "\\ge", "\\neq", "\\{",
        "circ", "\\approx", "matrix", "\\!", "np.", "{,}",
    ];
    let sign = [
        '=', '<', '>', '$', '%', ';', ':', '&', '_', '[', ']', '|', '\n',
    ];
    if top_level_items(&plain).len() != 1
        || plain.contains(sign)
        || relation_or_unit.iter().any(|word| plain.contains(word))
    {
        return false;
    }
    let is_letter = plain.len() == 1 && plain.bytes().all(|b| b.is_ascii_uppercase());
    let excluded = is_letter || mixed_number(&plain) || is_bracketed_sequence(&plain);
    !excluded
}

fn mixed_number(gold: &str) -> bool {
    gold.split_once("\\frac")
        .is_some_and(|(whole, _)| is_integer(whole.trim()))
}

#[test]
fn golds_are_readable_and_equal_to_themselves() {
    let Some(golds) = golds() else { return };
    let mut failures = Failures::default();
    let mut unreadable = 0;
    for gold in &golds {
        match check_gold(gold, &Options::default()) {
            Ok(()) => assert!(
                !UNREADABLE.contains(&gold.as_str()),
                "{gold} is readable now"
            ),
            Err(GoldError::Unreadable) if UNREADABLE.contains(&gold.as_str()) => unreadable += 1,
            Err(error) => failures.0.push(format!("{gold}: {error}")),
        }
        for mode in [Mode::Math, Mode::Strict, Mode::Numeric] {
            assert!(
                equal(gold, gold, &Options::with_mode(mode)),
                "{gold} in {mode:?}"
            );
        }
    }
    println!("{} golds, {unreadable} of them unreadable", golds.len());
    failures.report();
}

#[test]
fn layout_changes_nothing() {
    let Some(golds) = golds() else { return };
    let mut failures = Failures::default();
    for gold in golds
        .iter()
        .filter(|gold| !UNREADABLE.contains(&gold.as_str()))
    {
        failures.same(gold, &format!("  {gold} "));
        failures.same(gold, &format!("{}.", gold.trim_end_matches('.')));
        failures.same(gold, &format!("\\displaystyle {gold}"));
        failures.same(gold, &gold.replace("\\frac", "\\dfrac"));
        failures.same(gold, &gold.replace("\\dfrac", "\\tfrac"));
        failures.same(gold, &gold.replace("\\left", "").replace("\\right", ""));
        if !gold.contains("text") {
            failures.same(
                gold,
                &gold
                    .replace('(', "\\left(")
                    .replace(')', "\\right)")
                    .replace("\\left\\left", "\\left")
                    .replace("\\right\\right", "\\right"),
            );
        }
        failures.same(gold, &gold.replace('+', " + ").replace('=', " = "));
        if !gold.contains('$') {
            failures.same(gold, &format!("${gold}$"));
            failures.same(gold, &format!("\\({gold}\\)"));
        }
        let response =
            format!("<think> 1 </think> We get\n\\[ \\boxed{{{gold}}} \\] as wanted.<|im_end|>");
        let grade = verify(&response, gold, &Options::default());
        // A gold with unbalanced braces cannot be boxed.
        let balanced = gold.matches('{').count() == gold.matches('}').count();
        assert!(
            !balanced || grade.verdict == Verdict::Correct,
            "{gold}: {grade:?}"
        );
    }
    failures.report();
}

#[test]
fn whole_numbers_and_decimals_have_many_forms() {
    let Some(golds) = golds() else { return };
    let mut failures = Failures::default();
    for gold in &golds {
        let gold = gold.trim();
        if is_integer(gold) {
            let n: i64 = gold.parse().unwrap();
            for same in [
                format!("{gold}.0"),
                format!("{gold}.00"),
                format!("{{{gold}}}"),
                format!("\\text{{{gold}}}"),
                format!("\\mathbf{{{gold}}}"),
                format!("{} + 1", n - 1),
                format!("{} - 3", n + 3),
                format!("{gold}\\text{{ units}}"),
                format!("x = {gold}"),
                format!("{gold} = x"),
                format!("\\frac{{{}}}{{2}}", 2 * n),
                format!("{}/3", 3 * n),
                format!("{gold} \\text{{ cm}}"),
                format!("({gold})"),
                format!("N={gold}"),
                format!("\\frac{{{}}}{{5}}", 5 * n),
                format!("{} \\cdot 1", n),
                format!("{gold} apples"),
                format!("\\${gold}"),
                format!("{gold}^\\circ"),
                format!("0.5 \\cdot {}", 2 * n),
                format!("{gold}e0"),
                format!("\\sqrt{{{}}}", (n as i128) * (n as i128)),
            ] {
                if same.starts_with("\\sqrt") && n < 0 {
                    continue;
                }
                failures.same(gold, &same);
            }
            for other in [
                (n + 1).to_string(),
                (n - 1).to_string(),
                format!("{gold}0.5"),
                format!("({gold}, {})", n + 1),
                format!("{gold} \\text{{ or }} {}", n + 1),
                format!("{gold}x"),
                format!("{gold}+x"),
                format!("{gold}.1"),
                format!("\\frac{{{gold}}}{{3.1}}"),
                format!("x > {gold}"),
                format!("x \\neq {gold}"),
                format!("[{gold}, {}]", n + 1),
                "\\text{none}".to_owned(),
                format!("{gold}, {}", n + 7),
                format!("\\pm ({gold}+1)"),
            ] {
                if n != 0 {
                    failures.different(gold, &other);
                }
            }
            if n.abs() >= 1000 {
                let digits = n.unsigned_abs().to_string();
                let grouped = |separator: &str| {
                    let head = digits.len() % 3;
                    let mut groups: Vec<&str> = if head > 0 {
                        vec![&digits[..head]]
                    } else {
                        vec![]
                    };
                    groups.extend(
                        (head..digits.len())
                            .step_by(3)
                            .map(|at| &digits[at..at + 3]),
                    );
                    format!("{}{}", if n < 0 { "-" } else { "" }, groups.join(separator))
                };
                for separator in [",", "{,}", "\\,", ",\\!", " ", ",\\! "] {
                    failures.same(gold, &grouped(separator));
                }
                failures.different(gold, &grouped(", "));
                failures.different(gold, &grouped("."));
            }
        } else if is_decimal(gold) {
            for same in [
                format!("{gold}0"),
                format!("x = {gold}"),
                format!("\\text{{{gold}}}"),
                format!("{gold} \\mathrm{{~m}}"),
            ] {
                failures.same(gold, &same);
            }
            failures.different(gold, &format!("{gold}1"));
            failures.different(gold, &format!("-({gold})"));
        } else if let Some((sign, n, d)) = fraction(gold) {
            for same in [
                format!("{sign}{n}/{d}"),
                format!("{sign}\\frac{{{}}}{{{}}}", 3 * n, 3 * d),
                format!("{sign}({n})/({d})"),
                format!("{sign}{n} \\div {d}"),
                format!("{sign}{n} \\cdot \\frac{{1}}{{{d}}}"),
                format!("{sign} \\frac {{{n}}} {{{d}}}"),
                format!("{sign}\\frac{{{n}.0}}{{{d}}}"),
                format!("\\frac{{{sign}{n}}}{{{d}}}"),
                format!("x = {gold}"),
                format!("{sign}{n}\\cdot {d}^{{-1}}"),
                format!("{gold} \\text{{ hours}}"),
                format!("{{{sign}{n} \\over {d}}}"),
            ] {
                failures.same(gold, &same);
            }
            for other in [
                format!("{sign}\\frac{{{}}}{{{d}}}", n + 1),
                format!("{sign}\\frac{{{n}}}{{{}}}", d + 1),
                format!("{sign}\\frac{{{d}}}{{{n}}}"),
                format!("({n}, {d})"),
                format!("{n}{d}"),
                format!("{n}\\frac{{1}}{{{d}}}"),
                format!("{:.3}", n as f64 / d as f64 + 0.000_51),
                format!("{n}"),
            ] {
                let trivial = n == 1 || n == d;
                if !(trivial && (other == format!("{n}\\frac{{1}}{{{d}}}"))) {
                    failures.different(gold, &other);
                }
            }
        }
    }
    failures.report();
}

#[test]
fn expressions_survive_algebra() {
    let Some(golds) = golds() else { return };
    let mut failures = Failures::default();
    for gold in golds
        .iter()
        .filter(|gold| is_expression(gold) && !UNREADABLE.contains(&gold.as_str()))
    {
        for same in [
            format!("\\left({gold}\\right)"),
            format!("0 + \\left({gold}\\right)"),
            format!("\\frac{{2\\left({gold}\\right)}}{{2}}"),
            format!("-\\left(-\\left({gold}\\right)\\right)"),
            format!("\\left({gold}\\right) + 1 - 1"),
            format!("3 \\cdot \\left({gold}\\right) - 2 \\cdot \\left({gold}\\right)"),
            format!("{{{gold}}}"),
            format!("\\left({gold}\\right)^{{1}}"),
        ] {
            failures.same(gold, &same);
        }
        let zero = equal("0", gold, &Options::default());
        for other in [
            format!("\\left({gold}\\right) + 1"),
            format!("2\\left({gold}\\right)"),
            format!("-\\left({gold}\\right)"),
            format!("\\left({gold}, {gold}\\right)"),
        ] {
            if !zero {
                failures.different(gold, &other);
            }
        }
        // Sums and products in the other order.
        if let Some((left, right)) = gold.rsplit_once(" + ")
            && !left.contains(['(', '{', '\\'])
            && !right.contains([')', '}', '-'])
        {
            failures.same(gold, &format!("{right} + {left}"));
        }
    }
    failures.report();
}

#[test]
fn tuples_keep_their_order_and_lists_do_not() {
    let Some(golds) = golds() else { return };
    let mut failures = Failures::default();
    for gold in &golds {
        let plain = gold
            .replace("\\left", "")
            .replace("\\right", "")
            .replace('$', "");
        let plain = plain.trim();
        if plain.contains("\\cup")
            || plain.contains("infty")
            || plain.contains("text")
            || plain.contains('=')
            || plain.contains("\\!")
            || plain.contains("{,}")
        {
            continue;
        }
        let items = top_level_items(plain);
        if items.len() == 1
            && plain.starts_with('(')
            && plain.ends_with(')')
            && top_level_items(&plain[1..plain.len() - 1]).len() > 1
        {
            let entries = top_level_items(&plain[1..plain.len() - 1]);
            failures.same(gold, &format!("\\left( {} \\right)", entries.join(" , ")));
            failures.same(gold, &format!("({})", entries.join(",")));
            failures.same(gold, &format!("(x, y) = ({})", entries.join(", ")));
            failures.same(gold, &format!("\\langle {} \\rangle", entries.join(", ")));
            failures.different(gold, &format!("({}, 7777)", entries.join(",")));
            failures.different(gold, &format!("({})", entries[1..].join(",")));
            failures.different(gold, &format!("\\{{{}\\}}", entries.join(",")));
            failures.different(gold, &format!("[{}]", entries.join(",")));
            if !equal(entries[0], entries[1], &Options::default()) {
                let mut swapped = entries.clone();
                swapped.swap(0, 1);
                failures.different(gold, &format!("({})", swapped.join(",")));
            }
        } else if items.len() > 1
            && !is_integer(&plain.replace(',', ""))
            && !plain.starts_with('\\')
        {
            let reversed: Vec<&str> = items.iter().rev().copied().collect();
            failures.same(gold, &reversed.join(", "));
            failures.same(gold, &format!("\\{{{}\\}}", items.join(", ")));
            failures.same(gold, &items.join(" \\text{ and } "));
            failures.same(gold, &items.join(" \\text{ or } "));
            failures.same(gold, &items.join(" or "));
            failures.same(
                gold,
                &items
                    .iter()
                    .map(|item| format!("x = {item}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            );
            let distinct = items.iter().enumerate().all(|(at, item)| {
                items[..at]
                    .iter()
                    .all(|known| !equal(known, item, &Options::default()))
            });
            if distinct {
                failures.different(gold, &items[1..].join(", "));
                failures.different(gold, &format!("{}, 7777", items.join(", ")));
            }
            if items.iter().all(|item| !item.starts_with('(')) {
                failures.different(gold, &format!("({})", items.join(", ")));
            }
        }
    }
    failures.report();
}
