use seele_verify::*;
use std::time::*;
fn main() {
    let text = std::fs::read_to_string("/work/shared/golden/verifier.jsonl").unwrap();
    let cases: Vec<serde_json::Value> = text
        .split('\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let cases: Vec<_> = cases
        .iter()
        .filter(|c| !c["category"].as_str().unwrap().starts_with("hostile"))
        .collect();
    let mut per: Vec<(Duration, String)> = vec![];
    let mut total = Duration::ZERO;
    let mut cat: std::collections::BTreeMap<String, (u32, Duration)> = Default::default();
    for c in &cases {
        let options = Options {
            relative_tolerance: c["rel_tol"].as_f64(),
            extraction: serde_json::from_value(c.get("extract").cloned().unwrap_or("boxed".into()))
                .unwrap(),
            ..Options::default()
        };
        let choices: Vec<String> = c
            .get("choices")
            .map(|v| serde_json::from_value(v.clone()).unwrap())
            .unwrap_or_default();
        let gold = c["gold"].as_str().unwrap();
        let f = || {
            if let Some(p) = c["prediction"].as_str() {
                compare_answers(gold, p, &options).verdict
            } else {
                verify_choice(c["response"].as_str().unwrap(), gold, &choices, &options).verdict
            }
        };
        f();
        f();
        let n = 20;
        let t = Instant::now();
        for _ in 0..n {
            std::hint::black_box(f());
        }
        let d = t.elapsed() / n;
        total += d;
        let e = cat
            .entry(c["category"].as_str().unwrap().into())
            .or_default();
        e.0 += 1;
        e.1 += d;
        per.push((
            d,
            format!(
                "{} | {} | {}",
                c["category"],
                gold,
                c["prediction"].as_str().unwrap_or("RESPONSE")
            ),
        ));
    }
    per.sort();
    per.reverse();
    for (d, s) in per.iter().take(25) {
        println!("{d:?} {s}");
    }
    println!("median {:?}", per[per.len() / 2].0);
    for (k, (n, d)) in cat {
        println!("{k:24} {n} mean {:?}", d / n);
    }
    println!(
        "{} cases, {:?}, {:.0}/s",
        cases.len(),
        total,
        cases.len() as f64 / total.as_secs_f64()
    );
}
